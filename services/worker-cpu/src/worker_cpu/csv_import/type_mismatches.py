"""Records with a text that does not fit its column's type, on their way to quarantine."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from worker_cpu.csv_import.column_types import Reading
from worker_cpu.csv_import.dialect import Dialect, from_text
from worker_cpu.csv_import.quarantine import QuarantineWriter
from worker_cpu.csv_import.records import RecordShape
from worker_cpu.csv_import.screening import LINE_JUMP, Outlier, Screened
from worker_cpu.csv_import.segments import Patch
from worker_cpu.database import identifier, quoted

_REASON_CHARACTERS: Final = 100
_FETCHED_ROWS: Final = 1_000


class Misfit(NamedTuple):
    """A text that does not fit."""

    number: int
    """That of the record, from 0, without the header."""
    column: str
    value: str
    """Empty if a value is missing that must be there."""


def misfit_conditions(readings: Mapping[str, Reading]) -> dict[str, str]:
    """Return the SQL condition of a misfit in each column that may have one."""
    conditions = {name: reading.fault(name) for name, reading in readings.items()}
    return {name: condition for name, condition in conditions.items() if condition}


def first_misfit(readings: Mapping[str, Reading]) -> str:
    """Return the SQL of a record's first [column, value] that does not fit, or of NULL."""
    cases = [
        f"WHEN {misfit} THEN [{quoted(name)}, left({identifier(name)}, {_REASON_CHARACTERS})]"
        for name, misfit in misfit_conditions(readings).items()
    ]
    return f"CASE {' '.join(cases)} END" if cases else "NULL::VARCHAR[]"


class MisfitReport:
    """Writes misfits to a quarantine file; they come in the order of the file."""

    def __init__(
        self,
        screened: Screened,
        dialect: Dialect,
        readings: Mapping[str, Reading],
        quarantine: QuarantineWriter,
    ) -> None:
        self._readings = readings
        self._quarantine = quarantine
        self._first_number = 1 if dialect.has_header else 0
        self._jumps = _line_jumps(screened.line_jumps)
        self._next_jump = next(self._jumps, None)
        self._offset = 1

    def add(self, misfit: Misfit, record: bytes) -> None:
        """Report a misfit, with the text of its record."""
        _, column, value = misfit
        reason = f"{value!r} is not of type {self._readings[column].type}" if value else "is empty"
        self._quarantine.add(self._line(misfit.number), column, reason, record)

    def _line(self, number: int) -> int:
        number += self._first_number
        while self._next_jump and self._next_jump[0] <= number:
            self._offset = self._next_jump[1] - self._next_jump[0]
            self._next_jump = next(self._jumps, None)
        return number + self._offset


def _line_jumps(path: Path) -> Iterator[tuple[int, int]]:
    with path.open("rb") as file:
        while entry := file.read(LINE_JUMP.size):
            number, line = LINE_JUMP.unpack(entry)
            yield number, line


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
