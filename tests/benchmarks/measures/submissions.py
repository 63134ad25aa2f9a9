"""Goals 1 and 2: how many jobs an API process accepts, and the processor time that each takes."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from benchmarks.bench import Bench, Servers
from benchmarks.load import Measured, closed_loop, refusals
from benchmarks.measure import Bars, Measure, Outcome, Verdict, at_least, at_most
from benchmarks.rounds import in_turn
from benchmarks.samples import Sample
from benchmarks.systems import DEMO, OURS, SYSTEMS, System, durability_table

_CLIENTS: Final = 256
_SECONDS: Final = 6
_WARM_UP_SECONDS: Final = 3


def run(bench: Bench) -> Outcome:
    """Post with many clients to each system in turn."""
    with bench.servers() as servers:
        sides = {system.name: partial(_load, system, servers, bench) for system in SYSTEMS}
        measured = in_turn(sides, bench.rounds, bench.say)
    rates = {
        name: Sample(tuple(each.per_second for each in given), "jobs/s")
        for name, given in measured.items()
    }
    costs = {
        name: Sample(tuple(each.cpu_ms_per_answer for each in given), "ms")
        for name, given in measured.items()
    }
    return Outcome(
        verdicts=_verdicts(rates, costs),
        tables=[
            durability_table(
                "System", SYSTEMS, {"Accepted": rates, "API's processor time a job": costs}
            )
        ],
        plots=[
            Bars("submissions", "Jobs accepted by one API process", rates),
            Bars("submission-cpu", "Processor time of the API for each job", costs),
        ],
        notes=[_load_note(measured), *refusals(measured)],
    )


def _load(system: System, servers: Servers, bench: Bench) -> Measured:
    with servers.place() as place, system.start(place) as api:
        return closed_loop(
            system.request(api),
            clients=_CLIENTS,
            seconds=bench.seconds(_SECONDS),
            warm_up_seconds=bench.seconds(_WARM_UP_SECONDS),
            watched_pid=api.pid,
        )


def _load_note(measured: Mapping[str, Sequence[Measured]]) -> str:
    shares = [each.load_cpu_seconds / each.seconds for given in measured.values() for each in given]
    return (
        f"The load generator took between {min(shares):.0%} and {max(shares):.0%} of a core, the "
        "more the faster the system was."
    )


def _verdicts(rates: Mapping[str, Sample], costs: Mapping[str, Sample]) -> list[Verdict]:
    others = [name for name in rates if name not in {OURS, DEMO}]
    fastest = max(others, key=lambda name: rates[name].median)
    cheapest = min(others, key=lambda name: costs[name].median)
    rate, cost = rates[OURS], costs[OURS]
    return [
        at_least(2.5, 1, "≥ 2.5 × the demo pattern's jobs/s", rate.over(rates[DEMO])),
        at_least(1.3, 1, f"≥ 1.3 × the best other's ({fastest})", rate.over(rates[fastest])),
        at_most(0.4, 2, "≤ 0.4 × the demo pattern's processor time", cost.over(costs[DEMO])),
        at_most(0.75, 2, f"≤ 0.75 × the best other's ({cheapest})", cost.over(costs[cheapest])),
    ]


MEASURE: Final = Measure(
    numbers=(1, 2),
    title="Submissions",
    question=(
        f"{_CLIENTS} clients, each on a connection that it keeps, post one trivial job after "
        "another to one API process; no worker takes them, so that the API is what is measured. "
        "Every system runs the same FastAPI on the same uvicorn[standard], takes the same body and "
        "answers 202 with the job's id, state, time and links. Processor time is that of the API's "
        "process, from /proc."
    ),
    run=run,
)
