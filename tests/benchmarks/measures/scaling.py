"""Goal 12: more services, and deeper queues."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from redis import Redis

from benchmarks.backlog import Pace, Watch, measure_pace, publish_jobs, succeeded
from benchmarks.bench import Bench, Servers
from benchmarks.measure import Curves, Measure, Outcome, Row, Table, Verdict, at_least
from benchmarks.ours import our_workers
from benchmarks.rounds import in_turn
from benchmarks.samples import Sample
from benchmarks.upstream import slow_upstream
from integration.place import Place
from twinlane_sdk.lanes import Lane
from twinlane_tasks.http import FETCH_URL, FetchUrlArgs
from twinlane_tasks.upkeep import PURGE_FILES, PurgeFilesArgs

_SERVICES: Final = (1, 2, 4)
_MOST_SERVICE_ROUNDS: Final = 2
_DEPTHS: Final = (1_000, 10_000, 100_000, 1_000_000)
_QUICK_DEPTHS: Final = (1_000, 10_000)
_WARM_UP: Final = 300
_JOBS: Final = 3_000
_AROUND: Final = 4_000
"""Jobs besides, for each service: those that end before the last is ready, and those behind."""
_DELAY_SECONDS: Final = 0.5
_CALLS_AT_ONCE: Final = 32
"""Of each of a service's processes: few enough that it takes several services to fill the cores."""
_CALLS: Final = 700
"""For each service: about five seconds."""
_LINEAR: Final = 0.9
_FULL: Final = 0.9
_FLAT: Final = 0.9

_Paces = Mapping[int, Sequence[Pace]]
"""Of each number of services, or depth, round by round."""


def run(bench: Bench) -> Outcome:
    """Add services, and then messages."""
    with bench.servers() as servers, slow_upstream(servers.folder) as upstream:
        url = f"{upstream}/delay/{_DELAY_SECONDS}"
        rounds = min(bench.rounds, _MOST_SERVICE_ROUNDS)
        trivial = _in_turn(partial(_trivial, servers), _SERVICES, rounds, bench)
        calls = _in_turn(partial(_calls, servers, url), _SERVICES, rounds, bench)
        depths = _behind(bench, servers, _QUICK_DEPTHS if bench.quick else _DEPTHS)
    return Outcome(
        verdicts=[
            linear("calls that wait", calls),
            linear("trivial jobs", trivial),
            *flat(depths),
        ],
        tables=[_services_table(trivial, calls), _depths_table(depths)],
        plots=[
            Curves(
                "services",
                "Jobs of several worker-io services",
                "services",
                {"calls of half a second": _rates(calls), "trivial jobs": _rates(trivial)},
            ),
            Curves(
                "depth",
                "Jobs of one worker-io service, by the depth of the queue",
                "messages behind the measured ones",
                {"trivial jobs": _rates(depths)},
                log_x=True,
            ),
        ],
        notes=[
            (
                "Trivial jobs purge a storage that holds nothing; services are as they are by "
                f"default. Calls that wait are GETs answered after {_DELAY_SECONDS:g} s, "
                f"{_CALLS_AT_ONCE} at once in each process. All services, RabbitMQ, Redis and the "
                "server that answers share the cores. “Cores” is how much of all of them was in "
                "use, by whomever."
            ),
            (
                f"Every queue is filled before the services start. For the depths, {_JOBS:,} "
                "jobs are measured while so many messages lie behind them, which the service "
                "never gets to; each depth has a queue of its own, and all are there at the same "
                "time."
            ),
        ],
    )


def _in_turn(
    measured: Callable[[int], Pace], numbers: Sequence[int], rounds: int, bench: Bench
) -> dict[int, list[Pace]]:
    sides = {str(number): partial(measured, number) for number in numbers}
    return {int(name): given for name, given in in_turn(sides, rounds, bench.say).items()}


def _trivial(servers: Servers, services: int) -> Pace:
    with servers.place() as place:
        keys = publish_jobs(
            place, PURGE_FILES, PurgeFilesArgs(), _WARM_UP + _JOBS + _AROUND * services
        )
        return _pace(place, keys, services, _JOBS)


def _calls(servers: Servers, url: str, services: int) -> Pace:
    jobs = _CALLS * services
    with servers.place() as place:
        keys = publish_jobs(place, FETCH_URL, FetchUrlArgs(url=url), 3 * jobs)
        settings = {"io_concurrency": _CALLS_AT_ONCE, "fetch_allowed_hosts": "127.0.0.1"}
        return _pace(place, keys, services, jobs, **settings)


def _pace(place: Place, keys: Sequence[str], services: int, jobs: int, **settings: object) -> Pace:
    with (
        our_workers(place, Lane.IO, services, **settings) as pids,
        Redis.from_url(place.result_url) as redis,
    ):
        return measure_pace(Watch(redis, keys, succeeded), pids, _WARM_UP, jobs)


def _behind(bench: Bench, servers: Servers, depths: Sequence[int]) -> dict[int, list[Pace]]:
    """Measure with queues of each depth, which all are there while one after another is worked."""
    ahead = bench.rounds * (_WARM_UP + _JOBS + _AROUND)
    with ExitStack() as stack:
        watches: dict[int, tuple[Place, Watch]] = {}
        for depth in depths:
            bench.say(f"queueing {depth:,} messages")
            place = stack.enter_context(servers.place())
            redis = stack.enter_context(Redis.from_url(place.result_url))
            keys = publish_jobs(place, PURGE_FILES, PurgeFilesArgs(), ahead + depth)
            watches[depth] = place, Watch(redis, keys[:ahead], succeeded)

        def measured(depth: int) -> Pace:
            place, watch = watches[depth]
            with our_workers(place, Lane.IO) as pids:
                return measure_pace(watch, pids, _WARM_UP, _JOBS)

        return _in_turn(measured, depths, bench.rounds, bench)


def linear(what: str, paces: _Paces) -> Verdict:
    """Return whether the most services do as many times more as they are, or fill the cores."""
    most = max(paces)
    gained = _rate(paces, most).over(_rate(paces, 1))
    full = _busy(paces, most).median >= _FULL
    return Verdict(
        12,
        f"{most} services do ≥ {_LINEAR} × {most} × the {what} of one, or fill the cores",
        gained,
        gained.median >= _LINEAR * most or full,
    )


def flat(paces: _Paces) -> list[Verdict]:
    shallow = min(paces)
    return [
        at_least(
            _FLAT,
            12,
            f"{depth:,} messages deep ≥ {_FLAT} × the jobs/s of {shallow:,} deep",
            _rate(paces, depth).over(_rate(paces, shallow)),
        )
        for depth in paces
        if depth != shallow
    ]


def _services_table(trivial: _Paces, calls: _Paces) -> Table:
    return Table(
        ("worker-io services", "calls that wait", "cores", "trivial jobs", "cores"),
        [
            Row(
                str(number),
                (
                    _rate(calls, number),
                    _busy(calls, number),
                    _rate(trivial, number),
                    _busy(trivial, number),
                ),
            )
            for number in trivial
        ],
    )


def _depths_table(depths: _Paces) -> Table:
    return Table(
        ("Messages behind", "trivial jobs", "processor time of the worker a job"),
        [
            Row(
                f"{depth:,}",
                (
                    _rate(depths, depth),
                    Sample(tuple(pace.cpu_ms_per_job for pace in depths[depth]), "ms"),
                ),
            )
            for depth in depths
        ],
    )


def _rates(paces: _Paces) -> list[tuple[float, Sample]]:
    return [(float(number), _rate(paces, number)) for number in paces]


def _rate(paces: _Paces, number: int) -> Sample:
    return Sample(tuple(pace.jobs_per_second for pace in paces[number]), "jobs/s")


def _busy(paces: _Paces, number: int) -> Sample:
    return Sample(tuple(pace.busy_share for pace in paces[number]))


MEASURE: Final = Measure(
    numbers=(12,),
    title="More services, deeper queues",
    question=(
        "How many jobs a second do 1, 2 and 4 worker-io services do, and does one service slow "
        "down when a queue is deep?"
    ),
    run=run,
)
