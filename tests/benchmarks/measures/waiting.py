"""Goal 5: how soon a client that waits has the result of a trivial job."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import httpx2

from benchmarks.bench import Bench, Servers
from benchmarks.load import Measured, Request, closed_loop, refusals
from benchmarks.measure import Bars, Measure, Outcome, Verdict, at_most
from benchmarks.ours import Api, our_api, our_workers
from benchmarks.rounds import in_turn
from benchmarks.samples import Sample, percentile
from benchmarks.systems import (
    CELERY,
    OUR_DURABILITY,
    OURS,
    REDIS_DURABILITY,
    TASKIQ,
    TASKIQ_DURABILITY,
    durability_table,
)
from integration.place import Place
from twinlane_sdk.lanes import Lane

_SUM: Final = {"a": 2, "b": 3}
_SECONDS: Final = 8
_WARM_UP_SECONDS: Final = 2
_LIMIT_MS: Final = 20
_WORKERS: Final = 2
"""Processes of every side's worker."""


@dataclass(frozen=True)
class _Side:
    name: str
    durability: str
    start: Callable[[Place], AbstractContextManager[Api]] = field(repr=False)
    path: str = "/results"
    headers: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def _ours(place: Place) -> Iterator[Api]:
    with our_workers(place, Lane.CPU, cpu_concurrency=_WORKERS), our_api(place) as api:
        yield api


@contextmanager
def _celery(place: Place) -> Iterator[Api]:
    command = ("celery", "-A", "benchmarks.peers.celery.jobs", "worker", f"-c{_WORKERS}")
    broker = {"BROKER_URL": place.result_url}
    with (
        CELERY.api(place, **broker) as api,
        CELERY.worker(place, *command, is_ready=partial(_has_results, api), **broker),
    ):
        yield api


@contextmanager
def _taskiq(place: Place) -> Iterator[Api]:
    command = ("taskiq", "worker", "benchmarks.peers.taskiq.jobs:broker", f"-w{_WORKERS}")
    quiet = ("--log-level", "WARNING")  # as Celery's default is
    with (
        TASKIQ.api(place) as api,
        TASKIQ.worker(place, *command, *quiet, is_ready=partial(_has_results, api)),
    ):
        yield api


def _has_results(api: Api) -> bool:
    """Return whether the worker behind an API does a job within the ten seconds of its route."""
    return httpx2.post(f"{api.url}/results", json=_SUM, timeout=60).is_success


_SIDES: Final = (
    _Side(
        f"{OURS}, `Prefer: wait`",
        OUR_DURABILITY,
        _ours,
        "/v1/tasks/cpu.sum_numbers/jobs",
        {"Prefer": "wait=10"},
    ),
    _Side("Celery, `.get()`", f"no record; {REDIS_DURABILITY}", _celery),
    _Side("taskiq, `wait_result()`", TASKIQ_DURABILITY, _taskiq),
    _Side(
        "taskiq, `wait_result(check_interval=0.01)`",
        TASKIQ_DURABILITY,
        _taskiq,
        "/results?every=0.01",
    ),
)


def run(bench: Bench) -> Outcome:
    """Let one client post and wait, on each side in turn."""
    with bench.servers() as servers:
        sides = {side.name: partial(_wait, side, servers, bench) for side in _SIDES}
        measured = in_turn(sides, bench.rounds, bench.say)
    p50, p99 = (
        {
            name: Sample(tuple(percentile(each.latencies_ms, percent) for each in given), "ms")
            for name, given in measured.items()
        }
        for percent in (50, 99)
    )
    return Outcome(
        verdicts=_verdicts(p50),
        tables=[durability_table("Side", _SIDES, {"p50": p50, "p99": p99})],
        plots=[Bars("waiting", "From a POST to its job's result, p50", p50, goal=_LIMIT_MS)],
        notes=refusals(measured),
    )


def _wait(side: _Side, servers: Servers, bench: Bench) -> Measured:
    with servers.place() as place, side.start(place) as api:
        return closed_loop(
            Request(
                api.url + side.path, json.dumps(_SUM), headers=side.headers, expected_status=200
            ),
            clients=1,
            seconds=bench.seconds(_SECONDS),
            warm_up_seconds=_WARM_UP_SECONDS,
        )


def _verdicts(p50: Mapping[str, Sample]) -> list[Verdict]:
    ours, *peers = (p50[side.name] for side in _SIDES)
    best = min(peers, key=lambda sample: sample.median)
    return [
        at_most(_LIMIT_MS, 5, f"p50 ≤ {_LIMIT_MS} ms", ours),
        at_most(
            1,
            5,
            "p50 below every peer's",
            ours.over(best),
            "RabbitMQ delivers a message when it is on disk; Redis as a broker writes nothing.",
        ),
    ]


MEASURE: Final = Measure(
    numbers=(5,),
    title="Waiting for a result",
    question=(
        "One client posts a trivial job and waits for the answer with its result, again and again, "
        f"while nothing else runs. Every side has one API process and a worker of {_WORKERS} "
        "processes."
    ),
    run=run,
)
