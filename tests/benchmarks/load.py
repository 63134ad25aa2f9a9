"""Load on an API, by a process of its own that takes as little of the machine as it can.

`closed_loop`: each client posts one job after another on a connection that it keeps, so the rate is
what the API can do. `open_loop`: posts begin at fixed moments whatever the answers do, and each is
timed from the moment at which it was to begin: an API that stalls does not hide the posts that
waited meanwhile.

Raw HTTP over asyncio's protocols: no client library would leave the machine to the API.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

import uvloop

from benchmarks.processes import cpu_seconds
from local_stack.programs import basic_env, ending_with_parent

_PATIENCE_SECONDS: Final = 30
"""What comes later than so long after the measured time is no answer."""
_GRACE_SECONDS: Final = 60
_TESTS: Final = Path(__file__).parents[1]
_SHOWN_BYTES: Final = 120
_HEAD_END: Final = b"\r\n\r\n"


@dataclass(frozen=True)
class Request:
    """What to send, again and again."""

    url: str
    body: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    expected_status: int = 202

    def encode(self) -> bytes:
        parts = urlsplit(self.url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        headers = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "Content-Length": str(len(self.body.encode())),
            **self.headers,
        }
        lines = [f"{self.method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", self.body]).encode()


@dataclass(frozen=True)
class Load:
    """How much of it; times in seconds."""

    request: Request
    seconds: float
    warm_up_seconds: float = 0
    """Before the measured time, with the same load; nothing of it is counted."""
    clients: int = 1
    rate: float | None = None
    """Posts a second, of an open loop; None for a closed one."""
    watched_pid: int | None = None
    """Whose processor time to count, with that of its descendants."""


@dataclass(frozen=True)
class Measured:
    """What the measured time gave."""

    answers: int
    """As expected; only these have a latency."""
    refused: int
    """Answers with another status."""
    refusal: str
    """The first of them."""
    seconds: float
    latencies_ms: list[float]
    cpu_seconds: float
    """Of the watched process."""
    load_cpu_seconds: float
    """Of the load generator itself."""

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds

    @property
    def cpu_ms_per_answer(self) -> float:
        return self.cpu_seconds * 1000 / self.answers


def refusals(measured: Mapping[str, Sequence[Measured]]) -> list[str]:
    """Return a note for every side that did not answer everything as expected."""
    notes = []
    for side, rounds in measured.items():
        refused = [each for each in rounds if each.refused]
        if refused:
            count = sum(each.refused for each in refused)
            notes.append(
                f"{side} refused {count:,} requests, the first with `{refused[0].refusal}`."
            )
    return notes


class LoadError(Exception):
    """The API gave no answer, or none that was expected; says what it gave."""


def closed_loop(
    request: Request,
    *,
    clients: int,
    seconds: float,
    warm_up_seconds: float = 0,
    watched_pid: int | None = None,
) -> Measured:
    """Let clients post one job after another.

    Raises:
        LoadError: not one answer was the expected one.

    """
    return _run(Load(request, seconds, warm_up_seconds, clients, None, watched_pid))


def open_loop(  # noqa: PLR0913 - a load has these
    request: Request,
    *,
    rate: float,
    seconds: float,
    warm_up_seconds: float = 0,
    clients: int = 256,
    watched_pid: int | None = None,
) -> Measured:
    """Post `rate` jobs a second over at most `clients` connections.

    Raises:
        LoadError: not one answer was the expected one.

    """
    return _run(Load(request, seconds, warm_up_seconds, clients, rate, watched_pid))


def _run(load: Load) -> Measured:
    try:
        done = subprocess.run(
            ending_with_parent([sys.executable, "-m", "benchmarks.load"]),
            input=json.dumps(asdict(load)),
            env=basic_env(PYTHONPATH=str(_TESTS)),
            capture_output=True,
            text=True,
            check=False,
            timeout=load.warm_up_seconds + load.seconds + _GRACE_SECONDS,
        )
    except subprocess.TimeoutExpired as exc:
        raise LoadError(f"{load.request.url} did not answer within {exc.timeout:.0f} s") from exc
    if done.returncode != 0:
        raise LoadError(done.stderr.strip().rpartition("\n")[2])
    return Measured(**json.loads(done.stdout))


class _Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time, opened anew if its server closed it."""

    def __init__(self, load: Load) -> None:
        parts = urlsplit(load.request.url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._request = load.request.encode()
        self._expected = b"HTTP/1.1 %d" % load.request.expected_status
        self._received = bytearray()
        self._transport: asyncio.Transport
        self._answered: asyncio.Future[str] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(_HEAD_END)
        if end < 0:
            return
        head = bytes(self._received[:end])
        if len(self._received) < end + len(_HEAD_END) + _content_length(head):
            return
        body = bytes(self._received[end:])
        self._received.clear()
        if self._answered and not self._answered.done():
            expected = head.startswith(self._expected)
            self._answered.set_result("" if expected else _shown(head, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered and not self._answered.done():
            self._answered.set_result(f"the connection was lost: {exc}")

    async def open(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, *self._address)

    async def post(self) -> str:
        """Send the request and return what was answered instead of the expected."""
        if self._transport.is_closing():  # servers close what is idle for some seconds
            await self.open()
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(self._request)
        return await self._answered

    def close(self) -> None:
        self._transport.close()


def _shown(head: bytes, body: bytes) -> str:
    """Return an answer's status line and the beginning of its body, in a line."""
    status = head.partition(b"\r\n")[0]
    return " ".join((status + body[:_SHOWN_BYTES]).decode(errors="replace").split())


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise LoadError(f"an answer without Content-Length: {head!r}")


class Connection(Protocol):
    """What carries a request and its answer, one at a time."""

    async def post(self) -> str:
        """Send the request and return what was answered instead of the expected."""


class Stopwatch:
    """Counts within the measured time, in seconds of a clock.

    Not the loop's: uvloop's stands still while events are handled, and counts milliseconds.
    """

    def __init__(
        self, begin: float, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.now = clock
        self.begin = begin
        self.end = begin + seconds
        self.latencies: list[float] = []
        self.refusals: list[str] = []

    def count(self, moment: float, latency: float, refusal: str) -> None:
        """Count an answer, if the moment that decides about it lies within the time."""
        if self.begin <= moment < self.end:
            if refusal:
                self.refusals.append(refusal)
            else:
                self.latencies.append(latency)


async def generate(load: Load) -> Measured:
    """Make the load from this process."""
    connections = await _connect(load)
    watch = Stopwatch(time.monotonic() + load.warm_up_seconds, load.seconds)
    taken = asyncio.create_task(_cpu_within(watch, load.watched_pid))
    if load.rate is None:
        clients = [asyncio.create_task(post_in_turn(each, watch)) for each in connections]
        await until_answered(clients, watch)
    else:
        await post_at_rate(connections, watch, load.rate)
    cpu, own = await taken
    for connection in connections:
        connection.close()
    if not watch.latencies:
        refusal = watch.refusals[0] if watch.refusals else "nothing"
        raise LoadError(f"{load.request.url} answered {refusal}")
    return Measured(
        answers=len(watch.latencies),
        refused=len(watch.refusals),
        refusal=watch.refusals[0] if watch.refusals else "",
        seconds=load.seconds,
        latencies_ms=[seconds * 1000 for seconds in watch.latencies],
        cpu_seconds=cpu,
        load_cpu_seconds=own,
    )


async def _connect(load: Load) -> list[_Connection]:
    connections = [_Connection(load) for _ in range(load.clients)]
    for connection in connections:
        await connection.open()
    return connections


async def post_in_turn(connection: Connection, watch: Stopwatch) -> None:
    """Post one after another until the time is over; what was answered within it counts."""
    while (sent := watch.now()) < watch.end:
        refusal = await connection.post()
        answered = watch.now()
        watch.count(answered, answered - sent, refusal)


async def post_at_rate(connections: Sequence[Connection], watch: Stopwatch, rate: float) -> None:
    """Post when it is time to; what was due within the time counts, however late its answer."""
    idle: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for connection in connections:
        idle.put_nowait(connection)

    async def post(due: float) -> None:
        connection = await idle.get()
        refusal = await connection.post()
        watch.count(due, watch.now() - due, refusal)
        idle.put_nowait(connection)

    begin = watch.now()
    posts = []
    for number in range(round((watch.end - begin) * rate)):
        due = begin + number / rate
        await asyncio.sleep(due - watch.now())
        posts.append(asyncio.create_task(post(due)))
    await until_answered(posts, watch)


async def until_answered(posts: Sequence["asyncio.Task[None]"], watch: Stopwatch) -> None:
    """Wait for all answers; those that do not come count as refused."""
    patience = watch.end - watch.now() + _PATIENCE_SECONDS
    answered, silent = await asyncio.wait(
        posts, timeout=patience, return_when=asyncio.FIRST_EXCEPTION
    )
    for post in answered:
        post.result()
    for post in silent:
        post.cancel()
    watch.refusals += [f"no answer for {_PATIENCE_SECONDS} s"] * len(silent)


async def _cpu_within(watch: Stopwatch, pid: int | None) -> tuple[float, float]:
    await asyncio.sleep(watch.begin - watch.now())
    before, own = cpu_seconds(pid) if pid else 0.0, time.process_time()
    await asyncio.sleep(watch.end - watch.now())
    after = cpu_seconds(pid) if pid else 0.0
    return after - before, time.process_time() - own


def _parse(text: str) -> Load:
    fields: dict[str, Any] = json.loads(text)
    return Load(**fields | {"request": Request(**fields["request"])})


def main() -> int:
    """Read a Load, make it, write a Measured; 1, with a line that says why, if it failed."""
    load = _parse(sys.stdin.read())
    # uvloop is the lighter one, but its timers are rounded and so may be early.
    run = uvloop.run if load.rate is None else asyncio.run
    try:
        measured = run(generate(load))
    except (LoadError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
