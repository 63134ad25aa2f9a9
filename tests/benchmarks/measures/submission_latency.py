"""Goal 3: how long a POST takes at a rate that every system can keep."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from benchmarks.bench import Bench, Servers
from benchmarks.load import Measured, open_loop, refusals
from benchmarks.measure import Bars, Measure, Outcome, Verdict, at_most
from benchmarks.rounds import in_turn
from benchmarks.samples import Sample, percentile
from benchmarks.systems import OURS, SYSTEMS, System, durability_table

_RATE: Final = 200
_SECONDS: Final = 10
_WARM_UP_SECONDS: Final = 2
_LIMIT_MS: Final = 25


def run(bench: Bench) -> Outcome:
    """Post at a fixed rate to each system in turn."""
    with bench.servers() as servers:
        sides = {system.name: partial(_load, system, servers, bench) for system in SYSTEMS}
        measured = in_turn(sides, bench.rounds, bench.say)
    p50, p99, longest = (
        {
            name: Sample(tuple(percentile(each.latencies_ms, percent) for each in given), "ms")
            for name, given in measured.items()
        }
        for percent in (50, 99, 100)
    )
    return Outcome(
        verdicts=_verdicts(p99),
        tables=[durability_table("System", SYSTEMS, {"p50": p50, "p99": p99, "Longest": longest})],
        plots=[
            Bars("submission-p99", f"p99 of a POST at {_RATE}/s", p99, goal=_LIMIT_MS),
            Bars("submission-p50", f"p50 of a POST at {_RATE}/s", p50),
        ],
        notes=refusals(measured),
    )


def _load(system: System, servers: Servers, bench: Bench) -> Measured:
    with servers.place() as place, system.start(place) as api:
        return open_loop(
            system.request(api),
            rate=_RATE,
            seconds=bench.seconds(_SECONDS),
            warm_up_seconds=_WARM_UP_SECONDS,
        )


def _verdicts(p99: Mapping[str, Sample]) -> list[Verdict]:
    ours = p99[OURS]
    lowest = min((name for name in p99 if name != OURS), key=lambda name: p99[name].median)
    return [
        at_most(_LIMIT_MS, 3, f"p99 ≤ {_LIMIT_MS} ms", ours),
        at_most(
            1,
            3,
            f"p99 below every peer's (the lowest: {lowest})",
            ours.over(p99[lowest]),
            "A POST waits for Redis and then for RabbitMQ's disk, and their tails add up; of the "
            "peers, none waits for both.",
        ),
    ]


MEASURE: Final = Measure(
    numbers=(3,),
    title="The time of a POST",
    question=(
        f"{_RATE} POSTs a second, at even intervals and whatever the answers do, to the systems "
        "and with the body of the submissions above. Each is timed from the moment at which it was "
        "to be sent, so that posts that wait behind a stall count as long as a client would find "
        "them to be. A POST may be sent up to a millisecond late, which counts too."
    ),
    run=run,
)
