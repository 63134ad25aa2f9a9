"""Turns a screened CSV into a typed Parquet; what does not fit its column's type is set aside."""

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from worker_cpu.csv_import.column_facts import ColumnFacts
from worker_cpu.csv_import.column_types import TEXT, Reading, infer_readings
from worker_cpu.csv_import.dialect import Dialect, from_csv, from_text
from worker_cpu.csv_import.one_pass import DoubtError, Proof
from worker_cpu.csv_import.quarantine import QuarantineWriter
from worker_cpu.csv_import.records import RecordShape
from worker_cpu.csv_import.screening import Screened
from worker_cpu.csv_import.segments import (
    MARK_RECORDS,
    PROTOCOL,
    Patches,
    SegmentFiles,
    Segments,
    divide,
    divide_without,
)
from worker_cpu.csv_import.type_mismatches import (
    Misfit,
    MisfitReport,
    first_misfit,
    judge,
    misfit_conditions,
)
from worker_cpu.database import PARQUET, execute_watched, identifier, one_thread, quoted
from worker_cpu.progress import Progress

_SAMPLE_ROWS: Final = 20_000
_SAMPLE_CELLS: Final = 1_000_000
_GROUP_ROWS: Final = 122_880
_GROUP_CELLS: Final = 1_000_000
_GROUP_BYTES: Final = 32 * 1024 * 1024
"""DuckDB holds a group of rows before it writes it: wide or long ones must be fewer."""
_MISFIT_SHARE: Final = 0.1
"""A column of which more does not fit its type was misjudged by its first rows: it is text."""
_MISFIT: Final = (duckdb.InvalidInputException, duckdb.ConversionException)
"""What DuckDB's error() raises, and its reader for a day like February 30th."""


@dataclass(frozen=True)
class Conversion:
    """The rows of a screened CSV, on their way to the Parquet file `target`."""

    connection: duckdb.DuckDBPyConnection
    screened: Screened
    dialect: Dialect
    scratch: Path
    target: Path
    progress: Progress

    def run(self, quarantine: QuarantineWriter) -> int:
        """Write the rows that fit, the others to the quarantine; return the count of the former."""
        readings = self._readings()
        report = MisfitReport(self.screened, self.dialect, readings, quarantine)
        try:
            return self._write_all_but_outliers(readings, report)
        except _MISFIT:
            readings |= dict.fromkeys(self._misjudged(readings), TEXT)
        clean = self._write_fitting(readings)
        self._set_aside(readings, report)
        return clean

    def run_presumed(self) -> int | None:
        """Write the rows while they are screened, and return how many.

        None if the file is not what `screened` presumes: then the target is worth nothing.
        """
        segments = self._segments()
        if segments is None:
            return None
        try:
            readings = self._readings()
        except _MISFIT:
            return None
        proven = self._proven(readings, self.screened.facts)
        proof = Proof(
            RecordShape(self.dialect.delimiter, self.dialect.columns),
            self.screened.facts,
            suffices=lambda facts: self._proven(readings, facts) == proven,
        )
        try:
            files = SegmentFiles(self.screened.path, segments, look=proof.look)
            clean = self._write_segments(readings, proven, files)
        except (DoubtError, *_MISFIT):
            return None
        return clean if proof.records == self.screened.well_formed else None

    def _readings(self) -> dict[str, Reading]:
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE sample AS {self._text()} "
            f" LIMIT {min(_SAMPLE_ROWS, _SAMPLE_CELLS // len(self.dialect.columns))}"
        )
        return infer_readings(self.connection, "sample", self.dialect.columns)

    def _write_all_but_outliers(self, readings: Mapping[str, Reading], report: MisfitReport) -> int:
        """Write every row but the outliers that do not fit, and return how many.

        Any other misfit is an error, and leaves nothing in the report.
        """
        segments = self._segments()
        if segments is None:
            return self._write_in_one_piece(readings)
        proven = self._proven(readings, self.screened.facts)
        verdict = judge(self.connection, self.screened, self.dialect, readings, proven)
        if verdict.misfits:
            segments = divide_without(verdict.left_out, self.screened.index, segments.rows)
        files = SegmentFiles(self.screened.path, segments, patches=Patches(verdict.patches))
        clean = self._write_segments(readings, proven, files)
        for misfit, record in verdict.misfits:
            report.add(misfit, record)
        return clean

    def _write_segments(
        self, readings: Mapping[str, Reading], proven: Collection[str], files: SegmentFiles
    ) -> int:
        """Write every row and return how many; a misfit is an error, and what `files` raise."""
        source = from_csv(files.names, self.dialect, _types(readings, proven), has_header=False)
        self.connection.register_filesystem(files)
        try:
            return self._write(_strict_values(readings, proven), source, files.rows)
        except duckdb.Error:
            if files.error:
                raise files.error from None
            raise
        finally:
            self.connection.unregister_filesystem(PROTOCOL)

    def _write_in_one_piece(self, readings: Mapping[str, Reading]) -> int:
        """Write every row and return how many; a misfit is an error.

        Without segments, several threads would make other groups of rows every time.
        """
        facts = self.screened.facts
        proven = set() if self.screened.outliers else self._proven(readings, facts)
        source = from_csv(
            [self.screened.path],
            self.dialect,
            _types(readings, proven),
            has_header=self.dialect.has_header,
        )
        with one_thread(self.connection):
            return self._write(_strict_values(readings, proven), source, self._group_rows())

    def _proven(self, readings: Mapping[str, Reading], facts: Sequence[ColumnFacts]) -> set[str]:
        """Return the columns that these facts of each column allow to be read as their type."""
        return {
            name
            for name, known in zip(self.dialect.columns, facts, strict=True)
            if readings[name].is_proven(known)
        }

    def _segments(self) -> Segments | None:
        return divide(self.screened.index, self._group_rows())

    def _write_fitting(self, readings: Mapping[str, Reading]) -> int:
        """Write the rows that fit and return how many there are.

        DuckDB casts everything twice for that, so it is not tried first.
        """
        values = {name: reading.expression(name) for name, reading in readings.items()}
        fitting = " AND ".join(f"NOT {misfit}" for misfit in misfit_conditions(readings).values())
        where = f" WHERE {fitting}" if fitting else ""
        # Threads would make row groups of other sizes every time.
        with one_thread(self.connection):
            return self._write(values, self._text() + where, self._group_rows())

    def _text(self) -> str:
        return from_text([self.screened.path], self.dialect, has_header=self.dialect.has_header)

    def _write(self, values: Mapping[str, str], source: str, group_rows: int) -> int:
        def watch(share: float) -> None:
            total = self.screened.well_formed
            self.progress(round(share * total), total, "rows", "converting")

        columns = ", ".join(f"{value} AS {identifier(name)}" for name, value in values.items())
        return execute_watched(
            self.connection,
            f"COPY (SELECT {columns} {source}) TO {quoted(self.target)}"
            f" ({PARQUET}, ROW_GROUP_SIZE {group_rows})",
            watch,
        )

    def _group_rows(self) -> int:
        record_bytes = self.screened.path.stat().st_size // max(1, self.screened.well_formed)
        rows = min(
            _GROUP_ROWS,
            _GROUP_CELLS // len(self.dialect.columns),
            _GROUP_BYTES // max(1, record_bytes),
        )
        return max(rows, MARK_RECORDS)

    def _misjudged(self, readings: Mapping[str, Reading]) -> list[str]:
        optional = {
            name: misfit
            for name, misfit in misfit_conditions(readings).items()
            if not readings[name].required
        }
        if not optional:
            return []
        counts = ", ".join(f"count(*) FILTER ({misfit})" for misfit in optional.values())
        row = self.connection.execute(f"SELECT {counts} {self._text()}").fetchone() or ()
        most = _MISFIT_SHARE * self.screened.well_formed
        return [name for name, count in zip(optional, row, strict=True) if count > most]

    def _set_aside(self, readings: Mapping[str, Reading], report: MisfitReport) -> None:
        """Read the file again, for the numbers of the records that do not fit, and their text."""
        misfits = self.scratch / "misfits.csv"
        self.connection.execute(
            f"COPY (SELECT number, misfit[1], misfit[2] FROM"  # noqa: S608 - quoted
            f" (SELECT {first_misfit(readings)} AS misfit, row_number() OVER () - 1 AS number"
            f" {self._text()}) WHERE misfit IS NOT NULL) TO {quoted(misfits)}"
            " (FORMAT csv, HEADER false)"
        )
        records = _records(self.screened.path, has_header=self.dialect.has_header)
        number, record = -1, b""
        for misfit in _misfits(misfits):
            while number < misfit.number:
                number, record = next(records)
            report.add(misfit, record)


def _types(readings: Mapping[str, Reading], proven: Collection[str]) -> dict[str, str]:
    """Return what DuckDB reads each column as: what is proven as its type, the others as text."""
    return {
        name: reading.type if name in proven else "VARCHAR" for name, reading in readings.items()
    }


def _strict_values(readings: Mapping[str, Reading], proven: Collection[str]) -> dict[str, str]:
    """Return the SQL of each column's value, which fails where a text does not fit."""
    return {
        name: identifier(name) if name in proven else _strict_value(reading, name)
        for name, reading in readings.items()
    }


def _strict_value(reading: Reading, name: str) -> str:
    expression = reading.expression(name)
    if not reading.fault(name):
        return expression
    strict = f"coalesce({expression}, error('misfit'))"
    return (
        strict
        if reading.required
        else f"CASE WHEN {identifier(name)} IS NOT NULL THEN {strict} END"
    )


def _misfits(path: Path) -> Iterator[Misfit]:
    with path.open(encoding="utf-8", newline="") as file:
        for number, column, value in csv.reader(file):
            yield Misfit(int(number), column, value)


def _records(path: Path, *, has_header: bool) -> Iterator[tuple[int, bytes]]:
    """Yield (number, text) of each record of a screened file; the header has number -1."""
    number, pending = -1 if has_header else 0, b""
    with path.open("rb") as file:
        for line in file:
            pending += line
            if pending.count(b'"') % 2:
                continue  # the line break is within quotes
            yield number, pending
            number, pending = number + 1, b""
