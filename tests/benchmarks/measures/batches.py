"""Goal 4: how fast thousands of jobs that come together are accepted."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import httpx2

from benchmarks.bench import Bench, Servers
from benchmarks.measure import Bars, Measure, Outcome, Verdict, at_least
from benchmarks.ours import Api, our_api
from benchmarks.processes import cpu_seconds
from benchmarks.rounds import in_turn
from benchmarks.samples import Sample
from benchmarks.systems import (
    CELERY,
    OUR_DURABILITY,
    OURS,
    REDIS_DURABILITY,
    TASKIQ,
    TASKIQ_DURABILITY,
    celery_over_redis,
    durability_table,
)
from integration.place import Place

_JOBS: Final = 10_000
_JOBS_OF_A_SLOW_SIDE: Final = 1_000
_WARM_UP_JOBS: Final = 200
_SMALLER_BATCH: Final = (
    "Celery waits for each confirm before it sends the next message, so its batch over RabbitMQ "
    f"has {_JOBS_OF_A_SLOW_SIDE:,} jobs only; its rate does not depend on that."
)
_TIMEOUT_SECONDS: Final = 240
_OVER_REDIS: Final = "Celery `group`, Redis"
_OVER_RABBITMQ: Final = "Celery `group`, RabbitMQ with confirms"


@dataclass(frozen=True)
class _Side:
    name: str
    durability: str
    start: Callable[[Place], AbstractContextManager[Api]] = field(repr=False)
    path: str = "/batches"
    content_type: str = "application/json"
    encode: Callable[[int], str] = field(default=lambda count: json.dumps(_sums(count)), repr=False)
    jobs: int = _JOBS


@dataclass(frozen=True)
class _Accepted:
    per_second: float
    cpu_ms: float
    """Of the API, for each job."""


def _sums(count: int) -> list[dict[str, int]]:
    return [{"a": number, "b": 1} for number in range(count)]


def _ndjson(count: int) -> str:
    return "".join(
        f"{json.dumps({'task': 'cpu.sum_numbers', 'args': args})}\n" for args in _sums(count)
    )


_SIDES: Final = (
    _Side(OURS, OUR_DURABILITY, our_api, "/v1/batches", "application/x-ndjson", _ndjson),
    _Side(_OVER_REDIS, f"no record; {REDIS_DURABILITY}", celery_over_redis),
    _Side(
        _OVER_RABBITMQ,
        "no record; quorum queue, each message on disk and confirmed before the next",
        CELERY.api,
        jobs=_JOBS_OF_A_SLOW_SIDE,
    ),
    _Side("taskiq, `kiq` in `asyncio.gather`", TASKIQ_DURABILITY, TASKIQ.api),
)


def run(bench: Bench) -> Outcome:
    """Post a batch to each side in turn."""
    with bench.servers() as servers:
        sides = {side.name: partial(_post, side, servers, bench) for side in _SIDES}
        accepted = in_turn(sides, bench.rounds, bench.say)
    rates = {
        name: Sample(tuple(each.per_second for each in given), "jobs/s")
        for name, given in accepted.items()
    }
    costs = {
        name: Sample(tuple(each.cpu_ms for each in given), "ms") for name, given in accepted.items()
    }
    return Outcome(
        verdicts=_verdicts(rates),
        tables=[
            durability_table(
                "Side", _SIDES, {"Accepted": rates, "API's processor time a job": costs}
            )
        ],
        plots=[Bars("batches", "Jobs accepted through batches", rates)],
        notes=[_SMALLER_BATCH],
    )


def _post(side: _Side, servers: Servers, bench: Bench) -> _Accepted:
    count = 1_000 if bench.quick else side.jobs
    with (
        servers.place() as place,
        side.start(place) as api,
        httpx2.Client(base_url=api.url, timeout=_TIMEOUT_SECONDS) as client,
    ):
        _post_batch(client, side, _WARM_UP_JOBS)
        cpu = cpu_seconds(api.pid)
        seconds = _post_batch(client, side, count)
        return _Accepted(count / seconds, (cpu_seconds(api.pid) - cpu) * 1000 / count)


def _post_batch(client: httpx2.Client, side: _Side, count: int) -> float:
    """Post a batch and return the seconds until its answer was there."""
    body = side.encode(count)
    started = time.perf_counter()
    answer = client.post(side.path, content=body, headers={"Content-Type": side.content_type})
    seconds = time.perf_counter() - started
    if answer.status_code != httpx2.codes.ACCEPTED or answer.json()["accepted"] != count:
        raise RuntimeError(f"{side.name}: not all of {count} jobs: {answer.text[:300]}")
    return seconds


def _verdicts(rates: Mapping[str, Sample]) -> list[Verdict]:
    best = max(_OVER_REDIS, _OVER_RABBITMQ, key=lambda name: rates[name].median)
    return [at_least(5, 4, f"≥ 5 × {best}", rates[OURS].over(rates[best]))]


MEASURE: Final = Measure(
    numbers=(4,),
    title="Batches",
    question=(
        f"One POST with {_JOBS:,} trivial jobs to one API process, timed until the answer with an "
        "id for each is there: ours as NDJSON to `/v1/batches`, the peers' as a JSON array to a "
        "route that does what their documentation has for many jobs. No worker takes them."
    ),
    run=run,
)
