"""How long a POST takes with many clients: `python tests/benchmarks/post_latency.py URL`.

Each client keeps one connection and posts one job after another; raw sockets, so that the load
generator takes as little of the machine as it can.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from urllib.parse import urlsplit


async def main() -> None:
    """Read the arguments, run the clients, print quantiles in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="base URL of the API")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--posts", type=int, default=100, help="posts of each client")
    parser.add_argument(
        "--pause", type=float, default=0, help="seconds that a client thinks between two posts"
    )
    parser.add_argument("--task", default="cpu.sum_numbers")
    parser.add_argument("--args", default='{"a": 2, "b": 3}', help="JSON")
    options = parser.parse_args()
    request = _request(options.url, options.task, options.args)
    started = time.perf_counter()
    clients = [
        _client(options.url, request, options.posts, options.pause) for _ in range(options.clients)
    ]
    latencies = sorted(
        seconds * 1000 for client in await asyncio.gather(*clients) for seconds in client
    )
    elapsed = time.perf_counter() - started
    quantiles = statistics.quantiles(latencies, n=100)
    print(  # noqa: T201 - a script's output
        f"{options.clients} clients, {len(latencies)} posts, {len(latencies) / elapsed:,.0f}/s: "
        f"p50 {quantiles[49]:.1f} ms, p90 {quantiles[89]:.1f} ms, p99 {quantiles[98]:.1f} ms, "
        f"max {latencies[-1]:.1f} ms"
    )


def _request(url: str, task: str, args: str) -> bytes:
    body = json.dumps(json.loads(args))
    head = (
        f"POST /v1/tasks/{task}/jobs HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


async def _client(url: str, request: bytes, posts: int, pause: float) -> list[float]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    latencies = []
    for _ in range(posts):
        # Between half and one and a half of the pause, so that clients do not act in step.
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 202"):
            raise RuntimeError(head.decode())
        await reader.readexactly(_content_length(head))
        latencies.append(time.perf_counter() - started)
    writer.close()
    return latencies


def _content_length(head: bytes) -> int:
    line = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return int(line.split(b":")[1])


if __name__ == "__main__":
    asyncio.run(main())
