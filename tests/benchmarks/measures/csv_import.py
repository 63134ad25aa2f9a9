"""Goal 9: a CSV of ten million sales, imported by the worker and converted by others."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.alone import Cost, run_alone
from benchmarks.bench import Bench
from benchmarks.make_sales_csv import DEFAULT_ROWS, make_sales_csv
from benchmarks.measure import Bars, Measure, Outcome, Row, Table, at_least, at_most
from benchmarks.peer import Peer
from benchmarks.rounds import in_turn
from benchmarks.samples import Sample
from local_stack.programs import Program, basic_env

_TESTS: Final = Path(__file__).parents[2]
_PANDAS: Final = Peer("pandas")
_QUICK_ROWS: Final = 500_000
_MOST_ROUNDS: Final = 2
_BAD_LINES: Final = 1_000
_GIB: Final = 1024**3

_TITLES: Final = {
    "process": "Twinlane: `process_csv`",
    "faulty": f"Twinlane: the same, with {_BAD_LINES:,} bad lines",
    "copy": "DuckDB: `COPY` to Parquet",
    "pandas": "pandas: `read_csv`, `to_parquet`",
    "read": "Python: `csv`",
}
_DOES: Final = {
    "process": "types, validates, quarantines, profiles, Parquet twice: as artifact, and by month "
    "in the dataset",
    "faulty": "the same",
    "copy": "types, Parquet; a bad line is an error",
    "pandas": "types, Parquet; a bad line is an error",
    "read": "types; writes nothing",
}


def run(bench: Bench) -> Outcome:
    """Convert one file by each side in turn."""
    rows = _QUICK_ROWS if bench.quick else DEFAULT_ROWS
    with TemporaryDirectory(dir=bench.folder) as name:
        folder = Path(name)
        source = folder / "vendas_2025.csv"
        bench.say(f"writing {rows:,} sales")
        make_sales_csv(source, rows)
        megabytes = source.stat().st_size / 1e6
        costs = _measured(bench, source)
    _check(costs, rows)
    rates = {
        name: Sample(tuple(each.answer / each.seconds / 1e6 for each in given), "M rows/s")
        for name, given in costs.items()
    }
    peaks = {
        name: Sample(tuple(each.peak_bytes / _GIB for each in given), "GiB")
        for name, given in costs.items()
    }
    cpu = {
        name: Sample(tuple(each.cpu_seconds / each.answer * 1e6 for each in given), "s")
        for name, given in costs.items()
    }
    ours = rates["process"]
    more_work = (
        f"The import takes {cpu['process'].median:.2f} s of processor time for a million rows, the "
        f"bare COPY {cpu['copy'].median:.2f} s; what it does besides is named in the table."
    )
    bare = rates["copy"].over(rates["pandas"])
    bound = f"DuckDB's bare COPY is {bare} as fast as pandas itself, whose reader is Arrow's."
    return Outcome(
        verdicts=[
            at_least(0.7, 9, "≥ 0.7 × DuckDB's bare `COPY`", ours.over(rates["copy"]), more_work),
            at_least(3, 9, "≥ 3 × pandas", ours.over(rates["pandas"]), bound),
            at_most(1, 9, "peak memory ≤ 1 GiB", peaks["process"]),
        ],
        tables=[
            Table(
                ("", "Speed", "Processor time a million rows", "Peak memory", "What it does"),
                [
                    Row(
                        _TITLES[name],
                        (rates[name], cpu[name], peaks[name], _DOES[name]),
                        ours=name in {"process", "faulty"},
                    )
                    for name in _TITLES
                ],
                caption=f"{rows:,} sales, {megabytes:,.0f} MB of CSV",
            )
        ],
        plots=[
            Bars(
                "csv-import",
                f"A CSV of {rows:,} sales: more is better",
                {_TITLES[name].replace("`", ""): rates[name] for name in _TITLES},
            )
        ],
        notes=[_note(bench.cores)],
    )


def _measured(bench: Bench, source: Path) -> dict[str, list[Cost]]:
    threads = bench.cores
    sides: Mapping[str, Callable[[], Cost]] = {
        "process": partial(_ours, "process", source, threads),
        "copy": partial(_ours, "copy", source, threads),
        "pandas": partial(_pandas, source),
    }
    costs = in_turn(sides, min(bench.rounds, _MOST_ROUNDS), bench.say)
    bench.say("Python's csv")
    costs["read"] = [_ours("read", source, threads)]
    bench.say(f"{_BAD_LINES:,} bad lines")
    _spoil(source)
    costs["faulty"] = [_ours("process", source, threads)]
    return costs


def _check(costs: Mapping[str, Sequence[Cost]], rows: int) -> None:
    """Have every side that saw the whole file agree on what is in it."""
    for name, given in costs.items():
        if name != "read" and any(each.answer != rows for each in given):
            raise ValueError(f"{_TITLES[name]} found {given[0].answer:,} rows, not {rows:,}")


def _ours(what: str, source: Path, threads: int) -> Cost:
    with TemporaryDirectory(dir=source.parent) as folder:
        arguments = [what, str(source), folder, str(threads)]
        return run_alone(
            Program(
                name=what,
                argv=[sys.executable, "-m", "benchmarks.sales", *arguments],
                env=basic_env(PYTHONPATH=str(_TESTS)),
                cwd=Path(folder),
            )
        )


def _pandas(source: Path) -> Cost:
    with TemporaryDirectory(dir=source.parent) as folder:
        target = Path(folder) / "pandas.parquet"
        module = "benchmarks.peers.pandas.convert"
        return run_alone(
            Program(
                name="pandas",
                argv=[_PANDAS.python(), "-m", module, str(source), str(target)],
                env=basic_env(PYTHONPATH=str(_TESTS)),
                cwd=Path(folder),
            )
        )


def _spoil(source: Path) -> None:
    """Put lines between the others that no sale is: a quantity in words, too few columns."""
    distance = source.stat().st_size // _BAD_LINES
    spoiled = source.with_suffix(".spoiled")
    with source.open("rb") as lines, spoiled.open("wb") as target:
        for number in range(_BAD_LINES // 2):
            target.write(lines.read(distance) + lines.readline())
            target.write(b"%d,2025-01-01,sul,Headset,dois,10.00\n" % number)
            target.write(lines.read(distance) + lines.readline())
            target.write(b"%d,2025-01-01\n" % number)
        target.writelines(lines)
    spoiled.replace(source)


def _note(cores: int) -> str:
    return (
        f"Each is a process of its own; its start and its imports do not count. Twinlane and "
        f"DuckDB have {cores} threads (`CPU_THREADS`) and the same limit of memory, pandas what it "
        "takes. Python's csv reads the first million rows. All of them find the same number of "
        "rows. Bad lines are spread over the file: a word for a number, or "
        "too few columns."
    )


MEASURE: Final = Measure(
    numbers=(9,),
    title="A CSV of ten million rows",
    question=(
        "How fast does a job of `cpu.process_csv` import sales, and how much memory does it take? "
        "The others only convert the same file."
    ),
    run=run,
)
