"""Goal 11: how long jobs of the io lane wait while the cpu lane has ten times too much to do."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final

import httpx2
from celery import Celery
from kombu import Connection
from redis import Redis

from benchmarks.backlog import Publisher, Watch, celery_message, copies, new_ids, succeeded
from benchmarks.bench import Bench, Servers
from benchmarks.measure import Bars, Measure, Outcome, Row, Table, at_most
from benchmarks.ours import our_api, our_workers
from benchmarks.peer_workers import CELERY_QUEUE, celery_command, peer_worker
from benchmarks.rounds import in_turn
from benchmarks.samples import Sample, percentile
from benchmarks.systems import CELERY
from benchmarks.upstream import slow_upstream
from contracts.keys import meta_key
from integration.place import Place
from local_stack.programs import autogroup
from local_stack.service_programs import NICENESS
from servers import eventually
from twinlane_sdk.lanes import Lane

_RATE: Final = 40
"""Quick jobs a second."""
_SECONDS: Final = 10
_PEER_SECONDS: Final = 2
_MOST_PEER_ROUNDS: Final = 2
_OVERLOAD: Final = 10
_HEAVY_JOBS: Final = 1_000
_HEAVY_ROWS: Final = 600_000
_HEAVY_PEER_SECONDS: Final = 1.0
_PERCENTS: Final = (50, 99)
_GOAL: Final = 1.1

Waits = list[float]
"""Milliseconds from being accepted to being started, of each quick job."""


def run(bench: Bench) -> Outcome:
    """Measure the waits without and with the overload, in turn."""
    sides: Mapping[str, Callable[[], Waits]]
    with bench.servers() as servers:
        with _ours(servers) as twinlane:
            sides = {
                "idle": partial(twinlane.waits, bench.seconds(_SECONDS)),
                "overloaded": partial(twinlane.waits_overloaded, bench.seconds(_SECONDS)),
            }
            ours = in_turn(sides, bench.rounds, bench.say)
        with _shared_queue(servers, bench.cores) as celery:
            sides = {
                "idle": partial(celery.waits, _PEER_SECONDS),
                "overloaded": partial(celery.waits_overloaded, _PEER_SECONDS),
            }
            theirs = in_turn(sides, min(bench.rounds, _MOST_PEER_ROUNDS), bench.say)
    return _outcome(ours, theirs, twinlane, bench.cores)


class _Twinlane:
    """An API and a worker of each lane, with the priorities that they are deployed with."""

    def __init__(self, client: httpx2.Client, place: Place, url: str) -> None:
        self._client = client
        self._place = place
        self._quick = {"url": url}
        self._heavy = 0
        self.overloads: list[float] = []
        """How many heavy jobs were there for each that was done, each time."""
        self.refusals: list[str] = []
        """What was answered to quick jobs that were not accepted."""

    def waits(self, seconds: float) -> Waits:
        """Submit quick jobs at a steady rate and return how long each waited."""
        ids = []
        for due in _moments(seconds):
            time.sleep(max(0.0, due - time.monotonic()))
            answer = self._client.post("/v1/tasks/io.fetch_url/jobs", json=self._quick)
            if answer.is_success:
                ids.append(answer.json()["id"])
            else:
                self.refusals.append(f"{answer.status_code} {answer.json()['code']}")
        return [self._wait_of(job_id) for job_id in ids]

    def waits_overloaded(self, seconds: float) -> Waits:
        """Do the same while the cpu lane has far too much to do.

        Raises:
            RuntimeError: the cpu lane had less than ten times too much to do.

        """
        batch = self._overload()
        try:
            before = self._counts(batch)["succeeded"]
            waits = self.waits(seconds)
            done = self._counts(batch)["succeeded"] - before
        finally:
            self._relieve(batch)
        self.overloads.append(_HEAVY_JOBS / max(done, 1))
        if self.overloads[-1] < _OVERLOAD:
            raise RuntimeError(f"{done} of {_HEAVY_JOBS} heavy jobs were done: too few to overload")
        return waits

    def _wait_of(self, job_id: str) -> float:
        query = {"wait": 30}
        job = self._client.get(f"/v1/jobs/{job_id}", params=query).raise_for_status().json()
        if job["state"] != "succeeded":
            raise RuntimeError(f"a quick job has not succeeded: {job}")
        moments = (datetime.fromisoformat(job[name]) for name in ("started_at", "submitted_at"))
        started, submitted = (moment.timestamp() for moment in moments)
        return (started - submitted) * 1000

    def _overload(self) -> str:
        """Submit the heavy jobs and return their batch, once the first of them runs."""
        self._heavy += 1
        items = [
            {
                "task": "cpu.process_csv",
                "args": {"filename": f"{self._heavy}-{number}.csv", "num_rows": _HEAVY_ROWS},
            }
            for number in range(_HEAVY_JOBS)
        ]
        answer = self._client.post("/v1/batches", json=items).raise_for_status().json()
        batch = str(answer["id"])
        if not eventually(lambda: self._counts(batch)["succeeded"] > 0, 60):
            raise RuntimeError("no heavy job was done in a minute")
        return batch

    def _relieve(self, batch: str) -> None:
        """Take away the heavy jobs that have not begun and wait for the others."""
        with Connection(self._place.broker_url) as connection:
            channel: Any = connection.channel()
            channel.queue_purge(Lane.CPU.queue_name)
        if not eventually(lambda: self._counts(batch)["running"] == 0, 60):
            raise RuntimeError("heavy jobs still run after a minute")

    def _counts(self, batch: str) -> dict[str, int]:
        view = self._client.get(f"/v1/batches/{batch}").raise_for_status().json()
        return {state: int(view["counts"].get(state, 0)) for state in ("succeeded", "running")}


class _SharedQueue:
    """One queue and one worker for quick and heavy jobs, as Celery has them by default."""

    def __init__(self, publisher: Publisher, redis: Redis, cores: int) -> None:
        self._publisher = publisher
        self._redis = redis
        self._cores = cores
        self._app = Celery(set_as_current=False)

    def waits(self, seconds: float) -> Waits:
        """Publish quick jobs at a steady rate and return how long each waited."""
        ids = []
        for due in _moments(seconds):
            time.sleep(max(0.0, due - time.monotonic()))
            ids += self._publish("plain.note_wait", {"published_at": time.time()}, 1)
        keys = [meta_key(job_id) for job_id in ids]
        Watch(self._redis, keys, succeeded).wait_for(len(keys), patience_seconds=120)
        return [self._wait_of(key) for key in keys]

    def waits_overloaded(self, seconds: float) -> Waits:
        """Do the same behind ten times as much as the worker can do in that time."""
        jobs = round(_OVERLOAD * seconds * self._cores / _HEAVY_PEER_SECONDS)
        self._publish("plain.burn", {"cpu_seconds": _HEAVY_PEER_SECONDS}, jobs)
        return self.waits(seconds)

    def _publish(self, task: str, args: dict[str, Any], count: int) -> list[str]:
        ids = new_ids(count)
        for message in copies(celery_message(self._app, task, args), ids):
            self._publisher.publish(CELERY_QUEUE, CELERY_QUEUE, message)
        self._publisher.settle()
        return ids

    def _wait_of(self, key: str) -> float:
        meta = json.loads(self._redis.get(key) or "{}")
        return float(meta["result"]["waited_seconds"]) * 1000


@contextmanager
def _ours(servers: Servers) -> Iterator[_Twinlane]:
    hosts = "127.0.0.1"
    with (
        servers.place() as place,
        slow_upstream(place.folder) as upstream,
        our_api(place, fetch_allowed_hosts=hosts) as api,
        our_workers(place, Lane.IO, fetch_allowed_hosts=hosts),
        our_workers(place, Lane.CPU) as cpu_pids,
        httpx2.Client(base_url=api.url, timeout=60) as client,
    ):
        for pid in cpu_pids:
            _stand_back(pid)
        yield _Twinlane(client, place, f"{upstream}/delay/0")


def _stand_back(pid: int) -> None:
    """Give a worker's session the priority that the stack gives it; see deploy/local."""
    group = autogroup(pid)
    if group.exists():
        group.write_text(str(NICENESS["worker-cpu"]))


@contextmanager
def _shared_queue(servers: Servers, cores: int) -> Iterator[_SharedQueue]:
    with (
        servers.place() as place,
        peer_worker(CELERY, place, celery_command("prefork")),
        Connection(place.broker_url) as connection,
        Redis.from_url(place.result_url) as redis,
    ):
        yield _SharedQueue(Publisher(connection), redis, cores)


def _moments(seconds: float) -> list[float]:
    """Return when to submit, as time.monotonic() says."""
    begin = time.monotonic()
    return [begin + number / _RATE for number in range(round(seconds * _RATE))]


def _outcome(
    ours: Mapping[str, list[Waits]],
    theirs: Mapping[str, list[Waits]],
    twinlane: _Twinlane,
    cores: int,
) -> Outcome:
    sides = {"Twinlane: two lanes": ours, "Celery: one queue, one worker": theirs}
    samples = {
        (side, load, percent): Sample(
            tuple(percentile(waits, percent) for waits in rounds[load]), "ms"
        )
        for side, rounds in sides.items()
        for load in rounds
        for percent in _PERCENTS
    }
    ratios = {
        (side, percent): samples[side, "overloaded", percent].over(samples[side, "idle", percent])
        for side in sides
        for percent in _PERCENTS
    }
    our_side = next(iter(sides))
    return Outcome(
        verdicts=[
            at_most(
                _GOAL,
                11,
                f"p{percent} of the wait overloaded ≤ {_GOAL} × unloaded",
                ratios[our_side, percent],
                "The lanes share the machine's disk: RabbitMQ's fsync, without which it confirms "
                "nothing, waits behind the files that the cpu lane writes.",
            )
            for percent in _PERCENTS
        ],
        tables=[
            Table(
                (
                    "Wait of a quick job",
                    *(f"{load}, p{percent}" for percent in _PERCENTS for load in ours),
                    *(f"ratio, p{percent}" for percent in _PERCENTS),
                ),
                [
                    Row(
                        side,
                        (
                            *(samples[side, load, p] for p in _PERCENTS for load in ours),
                            *(ratios[side, p] for p in _PERCENTS),
                        ),
                        ours=side == our_side,
                    )
                    for side in sides
                ],
            )
        ],
        plots=[
            Bars(
                "isolation",
                "p50 of a quick job's wait: less is better",
                {
                    f"{side}, {load}": samples[side, load, 50]
                    for side, rounds in sides.items()
                    for load in rounds
                },
                log=True,
            )
        ],
        notes=[
            (
                f"{_RATE} quick jobs a second (a GET that is answered at once), from being "
                f"accepted to being started. Twinlane's overload are {_HEAVY_JOBS:,} CSV samples "
                f"of {_HEAVY_ROWS:,} rows to generate, process and import, "
                f"{min(twinlane.overloads):.0f} times or more what was done of them meanwhile. The "
                "cpu lane's worker has the priority that deploy/local gives it. "
                f"{_told(twinlane.refusals)}"
            ),
            (
                "Celery has one queue and one prefork worker with as many processes as cores, for "
                f"quick and heavy jobs alike. Its overload are {_OVERLOAD * _PEER_SECONDS * cores} "
                f"jobs of {_HEAVY_PEER_SECONDS:g} s of processor time, ten times what it can do in "
                f"the {_PEER_SECONDS} s in which the quick jobs come. Their wait is as long as the "
                "backlog: with a longer one, it is longer."
            ),
        ],
    )


def _told(refusals: list[str]) -> str:
    if not refusals:
        return "All quick jobs were accepted."
    return f"{len(refusals)} quick jobs were refused, the first with `{refusals[0]}`."


MEASURE: Final = Measure(
    numbers=(11,),
    title="The io lane beside an overloaded cpu lane",
    question=(
        "How long does a quick job of the io lane wait while the cpu lane has ten times more to do "
        "than it can? As long as without, if the lanes are apart."
    ),
    run=run,
)
