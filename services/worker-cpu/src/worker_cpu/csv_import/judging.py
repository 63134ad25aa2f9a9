"""Judges the outliers of a file: which of them fit their types all the same, and as what.

One that fits (" 5" and "+5" are 5 too) is written as DuckDB reads it without a look back; one that
does not is left out of the file, and reported.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb

from worker_cpu.csv_import.column_types import Reading
from worker_cpu.csv_import.csv_source import from_text
from worker_cpu.csv_import.dialect import Dialect
from worker_cpu.csv_import.outliers import Outlier
from worker_cpu.csv_import.patches import Patch
from worker_cpu.csv_import.records import RecordShape
from worker_cpu.csv_import.screening import Screened
from worker_cpu.csv_import.type_mismatches import Misfit, first_misfit
from worker_cpu.database import identifier

_FETCHED_ROWS: Final = 1_000


@dataclass(frozen=True)
class Verdict:
    """What becomes of the outliers, in the order of the file."""

    patches: list[Patch] = field(default_factory=list)
    """What DuckDB is to read in the place of each."""
    misfits: list[tuple[Misfit, bytes]] = field(default_factory=list)
    """Those that are left out, with their text."""

    @property
    def left_out(self) -> list[int]:
        """The numbers of the records that are left out."""
        return [misfit.number for misfit, _ in self.misfits]


def judge(
    connection: duckdb.DuckDBPyConnection,
    screened: Screened,
    dialect: Dialect,
    readings: Mapping[str, Reading],
    proven: Collection[str],
) -> Verdict:
    """Judge the outliers by these readings; the `proven` columns will be read as their type."""
    verdict = Verdict()
    if not screened.outliers:
        return verdict
    copy = screened.line_jumps.with_name("outliers.csv")
    texts = _write_outliers(screened.path, screened.outliers, copy)
    rows = _judged_rows(connection, copy, dialect, readings, proven)
    shape = RecordShape(dialect.delimiter, dialect.columns)
    for outlier, text, (misfit, *values) in zip(screened.outliers, texts, rows, strict=True):
        if misfit:
            verdict.misfits.append((Misfit(outlier.number, *misfit), text))
        line = b"" if misfit else shape.line([value or "" for value in values])
        verdict.patches.append(Patch(outlier.start, outlier.end, line))
    return verdict


def _write_outliers(source: Path, outliers: Sequence[Outlier], target: Path) -> list[bytes]:
    """Copy the outliers to a file of their own and return the text of each."""
    texts = []
    with source.open("rb") as file:
        for outlier in outliers:
            file.seek(outlier.start)
            texts.append(file.read(outlier.end - outlier.start))
    if not texts[-1].endswith(b"\n"):  # the last line of the file
        texts[-1] += b"\n"
    target.write_bytes(b"".join(texts))
    return texts


def _judged_rows(
    connection: duckdb.DuckDBPyConnection,
    source: Path,
    dialect: Dialect,
    readings: Mapping[str, Reading],
    proven: Collection[str],
) -> Iterator[tuple[list[str] | None, *tuple[str | None, ...]]]:
    """Yield, of each outlier, the [column, value] that does not fit or None, and its texts."""
    texts = [
        f"({reading.expression(name)})::VARCHAR" if name in proven else identifier(name)
        for name, reading in readings.items()
    ]
    result = connection.execute(
        f"SELECT {', '.join([first_misfit(readings), *texts])}"
        f" {from_text([source], dialect, has_header=False)}"
    )
    while rows := result.fetchmany(_FETCHED_ROWS):
        yield from rows
