"""Goal 6: ten 3-second calls one after another, and the same calls as jobs in parallel."""

import time
from typing import Final

import httpx2

from benchmarks.bench import Bench, Servers
from benchmarks.measure import Measure, Outcome, Row, Table, at_least
from benchmarks.ours import our_api, our_workers
from benchmarks.rounds import in_turn
from benchmarks.samples import RATIO, Sample
from servers import run_httpbin
from twinlane_sdk.lanes import Lane

_CALLS: Final = 10
_DELAY_SECONDS: Final = 3
_LOOK_SECONDS: Final = 0.01
_MOST_ROUNDS: Final = 2
_GOAL: Final = 9.5
_DEMO: Final = "39.54 s ÷ 8.58 s = 4.6"


def run(bench: Bench) -> Outcome:
    with bench.servers() as servers:
        taken = _taken(bench, servers)
    sequential, parallel = (Sample(tuple(taken[side]), "s") for side in ("one", "all"))
    ratio = sequential.over(parallel)
    return Outcome(
        verdicts=[at_least(_GOAL, 6, f"at least {_GOAL} × as fast in parallel", ratio)],
        tables=[
            Table(
                ["Ten 3-second calls", "Time"],
                [
                    Row("`GET /sequential`", [sequential]),
                    Row("`GET /sequential_celery` to its result", [parallel], ours=True),
                    Row("the ratio of the two", [ratio]),
                    Row("the ratio that the demonstration had", [_DEMO]),
                    Row("the limit: ten calls in the time of one", [Sample((_CALLS,), RATIO)]),
                ],
            )
        ],
        notes=[],
    )


def _taken(bench: Bench, servers: Servers) -> dict[str, list[float]]:
    delay = 1 if bench.quick else _DELAY_SECONDS
    query = {"n": _CALLS, "delay": delay}
    with (
        servers.place() as place,
        run_httpbin(place.folder) as httpbin,
        our_api(place, httpbin_url=httpbin, fetch_allowed_hosts="127.0.0.1") as api,
        our_workers(place, Lane.IO, fetch_allowed_hosts="127.0.0.1"),
        httpx2.Client(base_url=api.url, timeout=120) as client,
    ):
        _parallel(client, {"n": _CALLS, "delay": 0})  # every connection is opened once
        sides = {
            "one": lambda: _sequential(client, query),
            "all": lambda: _parallel(client, query),
        }
        return in_turn(sides, min(bench.rounds, _MOST_ROUNDS), bench.say)


def _sequential(client: httpx2.Client, query: dict[str, int]) -> float:
    started = time.monotonic()
    _check(client.get("/sequential", params=query).raise_for_status().json())
    return time.monotonic() - started


def _parallel(client: httpx2.Client, query: dict[str, int]) -> float:
    started = time.monotonic()
    accepted = client.get("/sequential_celery", params=query).raise_for_status().json()
    while True:
        answer = client.get(f"/result/{accepted['task_id']}").raise_for_status().json()
        if "time_taken" in answer:
            _check(answer)
            return time.monotonic() - started
        if "error" in answer:
            raise RuntimeError(f"the parallel calls failed: {answer}")
        time.sleep(_LOOK_SECONDS)


def _check(answer: dict[str, object]) -> None:
    if answer["status"] != [200] * _CALLS:
        raise RuntimeError(f"not every call was answered: {answer}")


MEASURE: Final = Measure(
    numbers=[6],
    title="Ten 3-second calls, in parallel",
    question="How much faster are ten calls of three seconds each as jobs of the io lane than one "
    "after another? The demonstration boasted of 39.54 s → 8.58 s.",
    run=run,
)
