"""Run the benchmarks and write their document: `make bench`."""

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import last_run, machine
from benchmarks.bench import Bench
from benchmarks.catalogue import MEASURES
from benchmarks.last_run import Run
from benchmarks.measure import Measure
from benchmarks.peer import peers_packages
from benchmarks.report import Section, write

_ROOT: Final = Path(__file__).parents[2]
_ROUNDS: Final = 3
_DOCUMENT: Final = _ROOT / "docs" / "BENCHMARKS.md"
_TRIAL: Final = _ROOT / ".local" / "benchmarks" / "BENCHMARKS.md"


def main() -> int:
    """Run what the command line asks for; 1 if a measure failed."""
    options = _options()
    # Ends what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    measures = _chosen(options.only)
    last = last_run.load() if options.again else None
    started, stolen = time.monotonic(), machine.stolen_seconds()
    with TemporaryDirectory(prefix="twinlane-bench-") as folder:
        bench = Bench(
            folder=Path(folder),
            quick=options.quick,
            rounds=options.rounds or (1 if options.quick else _ROUNDS),
            say=lambda line: _say(f"    {line}"),
        )
        run = machine.facts(_ROOT, bench.folder)
        sections = [_run(measure, bench) for measure in measures]
    minutes = (time.monotonic() - started) / 60
    run |= {"Peers": peers_packages(), **bench.versions}
    run["Duration"] = f"{minutes:.0f} minutes"
    run["Kept by the host"] = f"{machine.stolen_seconds() - stolen:.1f} s of processor time"
    run["Rounds"] = str(bench.rounds)
    found = Run(sections, run)
    if last:
        found = last.with_again(sections, f"{run['Date']}, {run['Commit']}")
    is_whole = last or not (options.quick or options.only or options.rounds)
    if is_whole:
        last_run.save(found)
    out = options.out or (_DOCUMENT if is_whole else _TRIAL)
    write(out, found.sections, found.facts, quick=options.quick)
    _say(f"{len(sections)} measures in {minutes:.1f} minutes, written: {out}")
    return int(any(section.outcome is None for section in sections))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--only", type=_numbers, metavar="1,5", help="goals to measure; default all"
    )
    parser.add_argument("--quick", action="store_true", help="one short round, to try the measures")
    parser.add_argument(
        "--again",
        action="store_true",
        help="with --only: put these goals into the document of the last whole run",
    )
    parser.add_argument("--rounds", type=int, help=f"of each side; default {_ROUNDS}")
    parser.add_argument(
        "--out",
        type=Path,
        help="default: docs/BENCHMARKS.md for a whole run, .local/benchmarks otherwise",
    )
    options = parser.parse_args()
    if options.again and (options.quick or not options.only):
        parser.error("--again needs --only, and whole rounds: it writes into the document")
    return options


def _numbers(text: str) -> frozenset[int]:
    return frozenset(int(number) for number in text.split(","))


def _chosen(numbers: frozenset[int] | None) -> Sequence[Measure]:
    if numbers is None:
        return MEASURES
    known = {number for measure in MEASURES for number in measure.numbers}
    if unknown := numbers - known:
        raise SystemExit(f"no measure of goal {_listed(unknown)}: there are {_listed(known)}")
    return [measure for measure in MEASURES if numbers & set(measure.numbers)]


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers))


def _run(measure: Measure, bench: Bench) -> Section:
    _say(f"{_listed(measure.numbers)}. {measure.title}")
    started = time.monotonic()
    try:
        section = Section(measure, measure.run(bench))
    except Exception as exc:  # noqa: BLE001 - one that fails must not cost the others
        _say(traceback.format_exc())
        section = Section(measure, None, f"{type(exc).__name__}: {exc}")
    for verdict in section.outcome.verdicts if section.outcome else ():
        _say(f"  {'met' if verdict.met else 'NOT MET'}: {verdict.goal}: {verdict.measured}")
    _say(f"  {time.monotonic() - started:.0f} s")
    return section


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
