"""Goal 10: what the figures of one month cost as more months are stored."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import duckdb

from benchmarks.bench import Bench
from benchmarks.make_sales_csv import make_sales_csv
from benchmarks.measure import Curves, Measure, Outcome, Row, Table, at_most
from benchmarks.rounds import in_turn
from benchmarks.sales import cpu_tasks, process, silent_job
from benchmarks.samples import Sample
from twinlane_tasks.sales import AggregateSalesArgs
from worker_cpu.tasks import CpuTasks

_YEARS: Final = range(2025, 2035)
_ROWS_A_YEAR: Final = 1_200_000
_QUICK_ROWS_A_YEAR: Final = 60_000
_REGION: Final = "sudeste"
_MONTH: Final = "2025-01"
"""The first that is stored: there is no month before it to compare with, however many there are."""
_ASKED: Final = 7
"""How often in each round: an answer is there in a moment."""
_GOAL: Final = 1.5
_COLUMNS: Final = (
    "{'sale_id': 'BIGINT', 'date': 'DATE', 'region': 'VARCHAR', 'product': 'VARCHAR',"
    " 'quantity': 'INTEGER', 'unit_price': 'DECIMAL(18,2)'}"
)


class _Answer(NamedTuple):
    """The figures of a region and month, and how long they took."""

    figures: tuple[int, int, str]
    """Rows, quantity, revenue."""
    milliseconds: float


def run(bench: Bench) -> Outcome:
    """Store months as the worker does and in one CSV, and ask both for the same month."""
    rows = _QUICK_ROWS_A_YEAR if bench.quick else _ROWS_A_YEAR
    with TemporaryDirectory(dir=bench.folder) as name:
        folder = Path(name)
        bench.say(f"writing and importing {rows * len(_YEARS):,} sales")
        sources = _sources(folder, rows)
        stored = {
            months: partial(_ask_worker, _stored(folder / f"{months}", files, bench.cores))
            for months, files in sources.items()
        }
        ours = in_turn(stored, _ASKED * bench.rounds, lambda _: None)
        in_csv = {
            months: partial(_ask_duckdb, joined_csv(folder / f"{months}.csv", files), bench.cores)
            for months, files in sources.items()
        }
        theirs = in_turn(in_csv, bench.rounds, bench.say)
    _check([*ours.values(), *theirs.values()])
    return _outcome(_samples(ours), _samples(theirs), rows)


def _sources(folder: Path, rows: int) -> dict[str, list[Path]]:
    """Write the files that bring 1, 12 and 120 months, with the same first month."""
    years = [folder / f"vendas_{year}.csv" for year in _YEARS]
    for path in years:
        make_sales_csv(path, rows)
    first = folder / "vendas_janeiro.csv"
    duckdb.sql(
        f"COPY (SELECT * FROM read_csv('{years[0]}', all_varchar = true)"  # noqa: S608 - our own path
        f" WHERE date LIKE '{_MONTH}-%') TO '{first}' (FORMAT csv, HEADER)"
    )
    return {"1": [first], "12": years[:1], "120": years}


def _stored(folder: Path, files: Sequence[Path], threads: int) -> CpuTasks:
    """Import files as the worker does; return the tasks that know them."""
    folder.mkdir()
    for path in files:
        process(path, folder, threads)
    return cpu_tasks(folder, threads)


def joined_csv(target: Path, files: Sequence[Path]) -> Path:
    """Write one CSV with the rows of many."""
    with target.open("wb") as joined:
        for number, path in enumerate(files):
            with path.open("rb") as part:
                head = part.readline()
                if number == 0:
                    joined.write(head)
                while chunk := part.read(1 << 20):
                    joined.write(chunk)
    return target


def _ask_worker(tasks: CpuTasks) -> _Answer:
    args = AggregateSalesArgs(region=_REGION, month=_MONTH)
    started = time.perf_counter()
    figures = tasks.aggregate_sales(args, silent_job("aggregate")).figures
    milliseconds = (time.perf_counter() - started) * 1000
    return _Answer((figures.rows, figures.quantity, str(figures.revenue)), milliseconds)


def _ask_duckdb(path: Path, threads: int) -> _Answer:
    started = time.perf_counter()
    with duckdb.connect(config={"threads": threads}) as connection:
        row = connection.execute(
            "SELECT count(*), sum(quantity), sum(quantity * unit_price)::DECIMAL(38, 2)"  # noqa: S608 - the same
            f" FROM read_csv('{path}', header = true, columns = {_COLUMNS})"
            f" WHERE region = '{_REGION}'"
            f" AND date BETWEEN DATE '{_MONTH}-01' AND last_day(DATE '{_MONTH}-01')"
        ).fetchone()
    milliseconds = (time.perf_counter() - started) * 1000
    rows, quantity, revenue = row or (0, 0, 0)
    return _Answer((int(rows), int(quantity), str(revenue)), milliseconds)


def _check(answers: Sequence[Sequence[_Answer]]) -> None:
    figures = {answer.figures for side in answers for answer in side}
    if len(figures) != 1:
        raise ValueError(f"the sides do not agree on the month's figures: {figures}")


def _samples(answers: Mapping[str, Sequence[_Answer]]) -> dict[str, Sample]:
    return {
        months: Sample(tuple(answer.milliseconds for answer in given), "ms")
        for months, given in answers.items()
    }


def _outcome(ours: Mapping[str, Sample], theirs: Mapping[str, Sample], rows: int) -> Outcome:
    most = "120"
    return Outcome(
        verdicts=[
            at_most(
                _GOAL,
                10,
                f"one month's figures with {months} months stored ≤ {_GOAL} × those with one",
                ours[months].over(ours["1"]),
            )
            for months in ("12", most)
        ],
        tables=[
            Table(
                ("One region and month", *(f"of {months} stored" for months in ours)),
                [
                    Row("Twinlane: `aggregate_sales`", tuple(ours.values()), ours=True),
                    Row("DuckDB over one CSV", tuple(theirs.values())),
                ],
            )
        ],
        plots=[
            Curves(
                "aggregates",
                "One month's figures: less is better",
                "months stored",
                {"Twinlane": _points(ours), "DuckDB over one CSV": _points(theirs)},
                log_x=True,
                log_y=True,
            )
        ],
        notes=[
            (
                f"A month has {rows // 12:,} rows; with {most} months, the CSV has "
                f"{rows * len(_YEARS):,}. Every answer of both is the same to the cent. Twinlane's "
                "has the five products of most revenue too, and is timed from the task's arguments "
                "to its result, with the scratch folder, the snapshot and DuckDB's start."
            )
        ],
    )


def _points(samples: Mapping[str, Sample]) -> list[tuple[float, Sample]]:
    return [(float(months), sample) for months, sample in samples.items()]


MEASURE: Final = Measure(
    numbers=(10,),
    title="One month's figures among many",
    question=(
        "How long do a region's figures of one month take when 1, 12 or 120 months are stored? "
        "DuckDB has to read all of a CSV to find a month."
    ),
    run=run,
)
