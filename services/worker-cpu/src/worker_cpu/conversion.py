"""Turns a screened CSV into a typed Parquet; what does not fit its column's type is set aside."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from worker_cpu.column_types import TEXT, Reading, infer_readings
from worker_cpu.dialect import Dialect
from worker_cpu.engine import execute_watched, identifier, quoted
from worker_cpu.progress import Progress
from worker_cpu.quarantine import QuarantineWriter
from worker_cpu.records import MAX_RECORD_BYTES
from worker_cpu.screening import LINE_JUMP, Screened

PARQUET: Final = "FORMAT parquet, COMPRESSION zstd"

_SAMPLE_ROWS: Final = 20_000
_SAMPLE_CELLS: Final = 1_000_000
_GROUP_ROWS: Final = 122_880
_GROUP_CELLS: Final = 1_000_000
_GROUP_BYTES: Final = 32 * 1024 * 1024
"""DuckDB holds a group of rows before it writes it: wide or long ones must be fewer."""
_VECTOR_ROWS: Final = 2_048
_MISFIT_SHARE: Final = 0.1
"""A column of which more does not fit its type was misjudged by its first rows: it is text."""
_MISFIT: Final = duckdb.InvalidInputException
"""What DuckDB's error() raises."""
_REASON_CHARACTERS: Final = 100


@dataclass(frozen=True)
class Conversion:
    """The rows of a screened CSV, on their way to a Parquet file."""

    connection: duckdb.DuckDBPyConnection
    screened: Screened
    dialect: Dialect
    scratch: Path

    def run(self, target: Path, faults: QuarantineWriter, progress: Progress) -> int:
        """Write the rows that fit to `target`, the others to `faults`; return the count of rows."""
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE sample AS {self._text()} "
            f" LIMIT {min(_SAMPLE_ROWS, _SAMPLE_CELLS // len(self.dialect.columns))}"
        )
        readings = infer_readings(self.connection, "sample", self.dialect.columns)
        try:
            return self._write(readings, target, progress)
        except _MISFIT:
            readings |= dict.fromkeys(self._misjudged(readings), TEXT)
        clean = self._write(readings, target, progress, fitting_only=True)
        self._set_aside(readings, faults)
        return clean

    def _text(self) -> str:
        # Left to guess, DuckDB 2.0 takes a lone \r in the header for the line end: no row is read.
        columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in self.dialect.columns)
        return (
            f"FROM read_csv({quoted(self.screened.path)}, auto_detect = false,"
            f" header = {self.dialect.has_header}, delim = {quoted(self.dialect.delimiter)},"
            f" quote = '\"', escape = '\"', nullstr = '', strict_mode = true,"
            " new_line = '\\n',"
            f" max_line_size = {2 * MAX_RECORD_BYTES}, columns = {{{columns}}})"
        )

    def _write(
        self,
        readings: Mapping[str, Reading],
        target: Path,
        progress: Progress,
        *,
        fitting_only: bool = False,
    ) -> int:
        """Write `target` and return its rows; a misfit is an error, or is left out on demand.

        Leaving misfits out makes DuckDB cast everything twice, so it is not tried first.
        """

        def watch(share: float) -> None:
            total = self.screened.well_formed
            progress(round(share * total), total, "rows", "converting")

        values = ", ".join(
            f"{_value(reading, name, fitting_only=fitting_only)} AS {identifier(name)}"
            for name, reading in readings.items()
        )
        fitting = " AND ".join(f"NOT {fault}" for fault in _faults(readings).values())
        where = f"WHERE {fitting}" if fitting_only and fitting else ""
        return execute_watched(
            self.connection,
            f"COPY (SELECT {values} {self._text()} {where}) TO {quoted(target)}"
            f" ({PARQUET}, ROW_GROUP_SIZE {self._group_rows()})",
            watch,
        )

    def _group_rows(self) -> int:
        record_bytes = self.screened.path.stat().st_size // max(1, self.screened.well_formed)
        rows = min(
            _GROUP_ROWS,
            _GROUP_CELLS // len(self.dialect.columns),
            _GROUP_BYTES // max(1, record_bytes),
        )
        return max(rows, _VECTOR_ROWS)

    def _misjudged(self, readings: Mapping[str, Reading]) -> list[str]:
        optional = {
            name: fault for name, fault in _faults(readings).items() if not readings[name].required
        }
        if not optional:
            return []
        counts = ", ".join(f"count(*) FILTER ({fault})" for fault in optional.values())
        row = self.connection.execute(f"SELECT {counts} {self._text()}").fetchone() or ()
        most = _MISFIT_SHARE * self.screened.well_formed
        return [name for name, count in zip(optional, row, strict=True) if count > most]

    def _set_aside(self, readings: Mapping[str, Reading], faults: QuarantineWriter) -> None:
        """Read the file again, for the numbers of the records that do not fit, and their text."""
        misfits = self.scratch / "misfits.csv"
        cases = [
            f"WHEN {fault} THEN [{quoted(name)}, left({identifier(name)}, {_REASON_CHARACTERS})]"
            for name, fault in _faults(readings).items()
        ]
        self.connection.execute(
            f"COPY (SELECT number, misfit[1], misfit[2] FROM"  # noqa: S608 - quoted
            f" (SELECT CASE {' '.join(cases)} END AS misfit, row_number() OVER () AS number"
            f" {self._text()}) WHERE misfit IS NOT NULL) TO {quoted(misfits)}"
            " (FORMAT csv, HEADER false)"
        )
        first = 1 if self.dialect.has_header else 0
        records = _records(self.screened)
        number, line, raw = next(records, (0, 0, b""))
        for ordinal, column, value in _misfits(misfits):
            while number < ordinal - 1 + first:
                number, line, raw = next(records)
            reason = f"{value!r} is not of type {readings[column].type}" if value else "is empty"
            faults.add(line, column, reason, raw)


def _value(reading: Reading, name: str, *, fitting_only: bool) -> str:
    expression = reading.expression(name)
    fault = reading.fault(name)
    if fitting_only or not fault:
        return expression
    strict = f"coalesce({expression}, error('misfit'))"
    return (
        strict
        if reading.required
        else f"CASE WHEN {identifier(name)} IS NOT NULL THEN {strict} END"
    )


def _faults(readings: Mapping[str, Reading]) -> dict[str, str]:
    faults = {name: reading.fault(name) for name, reading in readings.items()}
    return {name: fault for name, fault in faults.items() if fault}


def _misfits(path: Path) -> Iterator[tuple[int, str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        for number, column, value in csv.reader(file):
            yield int(number), column, value


def _records(screened: Screened) -> Iterator[tuple[int, int, bytes]]:
    """Yield (number, line, text) of each record of a screened file; the header has number 0."""
    jumps = _line_jumps(screened.line_jumps)
    jump = next(jumps, None)
    number, offset, pending = 0, 1, b""
    with screened.path.open("rb") as file:
        for line in file:
            pending += line
            if pending.count(b'"') % 2:
                continue  # the line break is within quotes
            while jump and jump[0] <= number:
                offset = jump[1] - jump[0]
                jump = next(jumps, None)
            yield number, number + offset, pending
            number, pending = number + 1, b""


def _line_jumps(path: Path) -> Iterator[tuple[int, int]]:
    with path.open("rb") as file:
        while entry := file.read(LINE_JUMP.size):
            number, line = LINE_JUMP.unpack(entry)
            yield number, line
