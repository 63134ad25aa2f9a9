"""How load is counted, in a loop whose clock jumps from one timer to the next."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from benchmarks.load import Request, Stopwatch, post_at_rate, post_in_turn


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Does not wait: when nothing is ready, the next timer is due."""

    now = 0.0
    _ready: Any  # the base's own, which its types do not name
    _scheduled: Any

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


def run(load: Callable[[Stopwatch], Coroutine[Any, Any, None]], begin: float = 0) -> Stopwatch:
    """Make a load whose measured time is a second from `begin` on."""
    loop = VirtualTimeLoop()
    watch = Stopwatch(begin, 1, clock=loop.time)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(load(watch))
    return watch


class Server:
    """Answers after the given times, then at once."""

    def __init__(self, *seconds: float, refusal: str = "") -> None:
        self._seconds = list(seconds)
        self._refusal = refusal
        self.posts = 0

    async def post(self) -> str:
        self.posts += 1
        await asyncio.sleep(self._seconds.pop(0) if self._seconds else 0)
        return self._refusal


def test_posts_that_wait_behind_a_stall_count_from_when_they_were_due() -> None:
    server = Server(1.0)
    watch = run(lambda watch: post_at_rate([server], watch, rate=4))
    assert watch.latencies == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_answer_that_comes_after_the_time_counts_if_its_post_was_due_within() -> None:
    server = Server(20.0)
    watch = run(lambda watch: post_at_rate([server], watch, rate=1))
    assert watch.latencies == [20]


def test_post_that_is_never_answered_counts_as_refused_and_costs_no_other() -> None:
    servers = [Server(), Server(3600.0)]
    watch = run(lambda watch: post_at_rate(servers, watch, rate=4))
    assert watch.latencies == pytest.approx([0, 0, 0])
    assert watch.refusals == ["no answer for 30 s"]


def test_rate_is_kept_however_slow_the_answers_are() -> None:
    servers = [Server(10.0) for _ in range(8)]
    watch = run(lambda watch: post_at_rate(servers, watch, rate=8))
    assert [server.posts for server in servers] == [1] * 8
    assert watch.latencies == pytest.approx([10.0] * 8)


def test_warm_up_of_an_open_loop_does_not_count() -> None:
    server = Server(0.1, 0.1)
    watch = run(lambda watch: post_at_rate([server], watch, rate=2), begin=1)
    assert server.posts == 4
    assert watch.latencies == pytest.approx([0, 0])


def test_closed_loop_counts_answers_within_the_time_only() -> None:
    server = Server(*[0.4] * 10)
    watch = run(lambda watch: post_in_turn(server, watch), begin=1)
    # Answered at 0.4, 0.8, 1.2, 1.6, 2.0: the time is from 1 to 2.
    assert watch.latencies == pytest.approx([0.4, 0.4])


def test_refusals_are_no_answers() -> None:
    server = Server(refusal="503")
    watch = run(lambda watch: post_at_rate([server], watch, rate=3))
    assert watch.latencies == []
    assert watch.refusals == ["503"] * 3


def test_request_is_what_http_says() -> None:
    request = Request("http://127.0.0.1:8000/jobs?wait=1", '{"a": "é"}', headers={"Prefer": "x"})
    assert request.encode().decode() == (
        "POST /jobs?wait=1 HTTP/1.1\r\n"
        "Host: 127.0.0.1:8000\r\n"
        "Content-Type: application/json\r\n"
        "Content-Length: 11\r\n"
        "Prefer: x\r\n"
        "\r\n"
        '{"a": "é"}'
    )
