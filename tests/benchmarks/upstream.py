"""A server that answers `GET /delay/SECONDS` after that time: `python upstream.py PORT`.

httpbin does the same with a thread for each call. A thousand calls at once would leave little of
the machine to the workers that make them, and it is they who are measured.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.processes import running
from local_stack.ports import free_ports, is_listening
from local_stack.programs import Program, basic_env

_TESTS: Final = Path(__file__).parents[1]
_HEAD_END: Final = b"\r\n\r\n"
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
_BACKLOG: Final = 4096


@contextmanager
def slow_upstream(folder: Path) -> Iterator[str]:
    """Run the server and yield its base URL."""
    (port,) = free_ports(1)
    program = Program(
        name="upstream",
        argv=[sys.executable, "-m", "benchmarks.upstream", str(port)],
        env=basic_env(PYTHONPATH=str(_TESTS)),
        cwd=folder,
        is_ready=lambda: is_listening(port),
    )
    with running(program):
        yield f"http://127.0.0.1:{port}"


class _Patient(asyncio.Protocol):
    """A connection that is answered late."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while _HEAD_END in self._received:
            head, _, self._received = self._received.partition(_HEAD_END)
            path = head.split(b" ", 2)[1]
            delay = float(path.rpartition(b"/")[2])
            asyncio.get_running_loop().call_later(delay, self._transport.write, _ANSWER)


async def serve(port: int) -> None:
    """Serve for ever."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Patient, "127.0.0.1", port, backlog=_BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
