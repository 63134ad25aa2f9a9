"""Goal 8: jobs that do nothing, so that what a worker does around a job is all that counts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from redis import Redis

from benchmarks.backlog import (
    Ended,
    Pace,
    Watch,
    measure_pace,
    present,
    publish_jobs,
    succeeded,
)
from benchmarks.bench import Bench, Servers
from benchmarks.measure import Bars, Measure, Outcome, Row, Table, Verdict, at_least
from benchmarks.ours import our_workers
from benchmarks.peer import Peer
from benchmarks.peer_workers import (
    celery_command,
    dramatiq_command,
    peer_worker,
    publish_sums,
    taskiq_command,
)
from benchmarks.rounds import in_turn
from benchmarks.samples import Sample
from benchmarks.systems import CELERY, DRAMATIQ, TASKIQ
from integration.place import Place
from twinlane_sdk.lanes import Lane
from twinlane_tasks.sums import SUM_NUMBERS, SumArgs
from twinlane_tasks.upkeep import PURGE_FILES, PurgeFilesArgs

_GOAL: Final = 0.95
_THREADS: Final = 128
"""Of one process: more, or more processes, are another comparison."""
_WARM_UP: Final = 500
_SPARE: Final = 4_000
"""Jobs besides: those that end before all of a worker's processes are ready, and those behind the
measured ones, without which threads would be out of work before the last is done."""


@dataclass(frozen=True)
class _Side:
    """A worker, what it is given to do, and how much of it is measured."""

    title: str
    fill: Callable[[Place, int], list[str]]
    """Queues so many jobs and returns the keys of their results."""
    worker: Callable[[Place], AbstractContextManager[Sequence[int]]]
    jobs: int
    durability: str
    ended: Ended = succeeded

    def run(self, bench: Bench, servers: Servers) -> Pace:
        jobs = self.jobs // 5 if bench.quick else self.jobs
        with servers.place() as place, Redis.from_url(place.result_url) as redis:
            keys = self.fill(place, _WARM_UP + jobs + _SPARE)
            with self.worker(place) as pids:
                return measure_pace(Watch(redis, keys, self.ended), pids, _WARM_UP, jobs)


def _sums(place: Place, count: int) -> list[str]:
    return publish_jobs(place, SUM_NUMBERS, SumArgs(a=2, b=3), count)


def _purges(place: Place, count: int) -> list[str]:
    """Queue the least that the io lane can do: purge a storage that holds nothing."""
    return publish_jobs(place, PURGE_FILES, PurgeFilesArgs(), count)


def _worker_cpu(processes: int, place: Place) -> AbstractContextManager[Sequence[int]]:
    return our_workers(place, Lane.CPU, cpu_concurrency=processes)


def _worker_io(place: Place) -> AbstractContextManager[Sequence[int]]:
    return our_workers(place, Lane.IO, io_processes=1, io_concurrency=_THREADS)


@contextmanager
def _peer(peer: Peer, command: Sequence[str], place: Place) -> Iterator[Sequence[int]]:
    with peer_worker(peer, place, command) as pid:
        yield [pid]


def _sides(cores: int) -> dict[str, _Side]:
    as_ours = "as Twinlane's, without the history of attempts, cancels and ends written once"
    ours = "quorum queue, acknowledged when the result is in Redis, dead letters, events"
    return {
        "ours-prefork": _Side(
            f"Twinlane: worker-cpu, {cores} processes",
            _sums,
            partial(_worker_cpu, cores),
            2_500,
            ours,
        ),
        "celery-prefork": _Side(
            f"Celery: prefork, {cores} processes",
            partial(publish_sums, CELERY),
            partial(_peer, CELERY, celery_command("prefork", cores)),
            2_500,
            as_ours,
        ),
        "ours-threads": _Side(
            f"Twinlane: worker-io, {_THREADS} threads", _purges, _worker_io, 2_500, ours
        ),
        "celery-threads": _Side(
            f"Celery: {_THREADS} threads",
            partial(publish_sums, CELERY),
            partial(_peer, CELERY, celery_command("threads", _THREADS)),
            2_500,
            as_ours,
        ),
        "dramatiq": _Side(
            f"dramatiq: {cores} processes of 8 threads",
            partial(publish_sums, DRAMATIQ),
            partial(_peer, DRAMATIQ, dramatiq_command(cores)),
            4_000,
            "classic durable queue (one disk), late acknowledgement, result in Redis",
            present,
        ),
        "taskiq": _Side(
            f"taskiq: {cores} processes of 100 coroutines",
            partial(publish_sums, TASKIQ),
            partial(_peer, TASKIQ, taskiq_command(cores)),
            5_000,
            "quorum queue, acknowledged when the result is in Redis",
            present,
        ),
    }


def run(bench: Bench) -> Outcome:
    sides = _sides(bench.cores)
    with bench.servers() as servers:
        runs = {name: partial(side.run, bench, servers) for name, side in sides.items()}
        paces = in_turn(runs, bench.rounds, bench.say)
    rates = {
        name: Sample(tuple(pace.jobs_per_second for pace in paces[name]), "jobs/s")
        for name in sides
    }
    cpu = {name: Sample(tuple(pace.cpu_ms_per_job for pace in paces[name]), "ms") for name in sides}
    return Outcome(
        verdicts=[_verdict(rates, cpu, pool) for pool in ("prefork", "threads")],
        tables=[
            Table(
                ["Worker", "Trivial jobs", "its processor time per job", "Durability"],
                [
                    Row(
                        side.title,
                        [rates[name], cpu[name], side.durability],
                        ours=name.startswith("ours"),
                    )
                    for name, side in sides.items()
                ],
            )
        ],
        plots=[
            Bars(
                "trivial-jobs",
                "Trivial jobs of one worker: more is better",
                {sides[name].title: sample for name, sample in rates.items()},
            )
        ],
        notes=[
            (
                f"Every queue is filled before its worker starts. {_WARM_UP} jobs are not counted, "
                "to warm up. worker-cpu and the peers add two numbers; worker-io purges a storage "
                "that holds nothing, which is the least that a task of its lane can be asked to do."
            ),
            (
                "What dramatiq and taskiq do not do and Celery does: tell of every job that it is "
                "received, started and done (events, which Flower shows), and mark in Redis that "
                "it runs. What Celery does not do and Twinlane does, at each job: look whether it "
                "was cancelled or has ended already, keep its attempts, validate arguments and "
                "result, and write its end so that no second delivery can change it. taskiq runs "
                "coroutines on one loop without a thread, or a pipe, between consumer and task; a "
                "task that computes, or blocks, would stop all others of its process."
            ),
        ],
    )


def _verdict(rates: dict[str, Sample], cpu: dict[str, Sample], pool: str) -> Verdict:
    ours, plain = f"ours-{pool}", f"celery-{pool}"
    extra = cpu[ours].median - cpu[plain].median
    return at_least(
        _GOAL,
        8,
        f"at least {_GOAL} × plain Celery's trivial jobs, pool of {pool}",
        rates[ours].over(rates[plain]),
        f"Twinlane's worker takes {extra:.2f} ms more of the processor for each job.",
    )


MEASURE: Final = Measure(
    numbers=[8],
    title="Trivial jobs on one worker",
    question="How many jobs that do next to nothing does one worker get through in a second? This "
    "is the cost of what surrounds a job; a real job's own work comes on top.",
    run=run,
)
