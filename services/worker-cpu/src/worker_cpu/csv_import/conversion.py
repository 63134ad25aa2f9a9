"""Converts a screened CSV to a typed Parquet; what does not fit its type is quarantined."""

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from worker_cpu.csv_import.column_facts import ColumnFacts
from worker_cpu.csv_import.column_types import TEXT, ColumnType, infer_types
from worker_cpu.csv_import.dialect import Dialect, from_csv, from_text
from worker_cpu.csv_import.one_pass import PresumptionCheck, PresumptionError
from worker_cpu.csv_import.quarantine import QuarantineWriter
from worker_cpu.csv_import.records import RecordShape
from worker_cpu.csv_import.screening import ScreenedFile
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
    MismatchReport,
    TypeMismatch,
    check_outliers,
    first_mismatch,
    mismatch_conditions,
)
from worker_cpu.database import PARQUET, execute_watched, identifier, one_thread, quoted
from worker_cpu.progress import Progress

_SAMPLE_ROWS: Final = 20_000
_SAMPLE_CELLS: Final = 1_000_000
_GROUP_ROWS: Final = 122_880
_GROUP_CELLS: Final = 1_000_000
_GROUP_BYTES: Final = 32 * 1024 * 1024
"""DuckDB keeps a group in memory until it writes it: of wide or long rows it has fewer."""
_MOST_MISMATCHES: Final = 0.1
"""If a larger share of a column does not fit, its first rows were not typical: it is text."""
_MISMATCH_ERRORS: Final = (duckdb.InvalidInputException, duckdb.ConversionException)
"""What DuckDB's error() raises, and its reader for a day like February 30th."""


@dataclass(frozen=True)
class Conversion:
    """Writes the rows of a screened CSV to the Parquet file `target`."""

    connection: duckdb.DuckDBPyConnection
    screened: ScreenedFile
    dialect: Dialect
    scratch: Path
    target: Path
    progress: Progress

    def run(self, quarantine: QuarantineWriter) -> int:
        """Write the rows that fit, and the others to the quarantine; return how many fit."""
        types = self._types()
        report = MismatchReport(self.screened, self.dialect, types, quarantine)
        try:
            return self._write_all_but_outliers(types, report)
        except _MISMATCH_ERRORS:
            types |= dict.fromkeys(self._mistyped(types), TEXT)
        clean = self._write_fitting(types)
        self._report_mismatches(types, report)
        return clean

    def run_in_one_pass(self) -> int | None:
        """Write the rows while they are screened, and return how many.

        None if the file is not as `screened` presumes: then the target is to be thrown away.
        """
        segments = self._segments()
        if segments is None:
            return None
        try:
            types = self._types()
        except _MISMATCH_ERRORS:
            return None
        proven = self._proven(types, self.screened.facts)
        presumption = PresumptionCheck(
            RecordShape(self.dialect.delimiter, self.dialect.columns),
            self.screened.facts,
            suffices=lambda facts: self._proven(types, facts) == proven,
        )
        try:
            files = SegmentFiles(self.screened.path, segments, check=presumption.check)
            clean = self._write_segments(types, proven, files)
        except (PresumptionError, *_MISMATCH_ERRORS):
            return None
        return clean if presumption.records == self.screened.well_formed else None

    def _types(self) -> dict[str, ColumnType]:
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE sample AS {self._text()} "
            f" LIMIT {min(_SAMPLE_ROWS, _SAMPLE_CELLS // len(self.dialect.columns))}"
        )
        return infer_types(self.connection, "sample", self.dialect.columns)

    def _write_all_but_outliers(
        self, types: Mapping[str, ColumnType], report: MismatchReport
    ) -> int:
        """Write every row but the outliers that do not fit, and return how many.

        Any other mismatch is an error, and leaves nothing in the report.
        """
        segments = self._segments()
        if segments is None:
            return self._write_in_one_piece(types)
        proven = self._proven(types, self.screened.facts)
        checked = check_outliers(self.connection, self.screened, self.dialect, types, proven)
        if checked.mismatches:
            segments = divide_without(checked.left_out, self.screened.index, segments.rows)
        files = SegmentFiles(self.screened.path, segments, patches=Patches(checked.patches))
        clean = self._write_segments(types, proven, files)
        for mismatch, record in checked.mismatches:
            report.add(mismatch, record)
        return clean

    def _write_segments(
        self, types: Mapping[str, ColumnType], proven: Collection[str], files: SegmentFiles
    ) -> int:
        """Write every row and return how many; a mismatch raises, and so do errors of `files`."""
        source = from_csv(files.names, self.dialect, _read_types(types, proven), has_header=False)
        self.connection.register_filesystem(files)
        try:
            return self._write(_strict_values(types, proven), source, files.rows)
        except duckdb.Error:
            if files.error:
                raise files.error from None
            raise
        finally:
            self.connection.unregister_filesystem(PROTOCOL)

    def _write_in_one_piece(self, types: Mapping[str, ColumnType]) -> int:
        """Write every row and return how many; a mismatch raises.

        Without segments, several threads would make other groups of rows in each run.
        """
        facts = self.screened.facts
        proven = set() if self.screened.outliers else self._proven(types, facts)
        source = from_csv(
            [self.screened.path],
            self.dialect,
            _read_types(types, proven),
            has_header=self.dialect.has_header,
        )
        with one_thread(self.connection):
            return self._write(_strict_values(types, proven), source, self._group_rows())

    def _proven(self, types: Mapping[str, ColumnType], facts: Sequence[ColumnFacts]) -> set[str]:
        """Return the columns that these facts of each column allow to be read as their type."""
        return {
            name
            for name, known in zip(self.dialect.columns, facts, strict=True)
            if types[name].is_proven(known)
        }

    def _segments(self) -> Segments | None:
        return divide(self.screened.index, self._group_rows())

    def _write_fitting(self, types: Mapping[str, ColumnType]) -> int:
        """Write the rows that fit and return how many there are.

        DuckDB casts everything twice for that, so it is not tried first.
        """
        values = {name: column_type.expression(name) for name, column_type in types.items()}
        fitting = " AND ".join(
            f"NOT {mismatch}" for mismatch in mismatch_conditions(types).values()
        )
        where = f" WHERE {fitting}" if fitting else ""
        # Several threads would make other groups of rows in each run.
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

    def _mistyped(self, types: Mapping[str, ColumnType]) -> list[str]:
        """Return the columns of which so much does not fit that they are text."""
        optional = {
            name: mismatch
            for name, mismatch in mismatch_conditions(types).items()
            if not types[name].required
        }
        if not optional:
            return []
        counts = ", ".join(f"count(*) FILTER ({mismatch})" for mismatch in optional.values())
        row = self.connection.execute(f"SELECT {counts} {self._text()}").fetchone() or ()
        most = _MOST_MISMATCHES * self.screened.well_formed
        return [name for name, count in zip(optional, row, strict=True) if count > most]

    def _report_mismatches(self, types: Mapping[str, ColumnType], report: MismatchReport) -> None:
        """Read the file again for the records that do not fit: their numbers, then their text."""
        mismatches = self.scratch / "mismatches.csv"
        self.connection.execute(
            f"COPY (SELECT number, mismatch[1], mismatch[2] FROM"  # noqa: S608 - quoted
            f" (SELECT {first_mismatch(types)} AS mismatch, row_number() OVER () - 1 AS number"
            f" {self._text()}) WHERE mismatch IS NOT NULL) TO {quoted(mismatches)}"
            " (FORMAT csv, HEADER false)"
        )
        records = _records(self.screened.path, has_header=self.dialect.has_header)
        number, record = -1, b""
        for mismatch in _read_mismatches(mismatches):
            while number < mismatch.number:
                number, record = next(records)
            report.add(mismatch, record)


def _read_types(types: Mapping[str, ColumnType], proven: Collection[str]) -> dict[str, str]:
    """Return the SQL type that DuckDB reads each column as: text unless its own is proven."""
    return {
        name: column_type.name if name in proven else "VARCHAR"
        for name, column_type in types.items()
    }


def _strict_values(types: Mapping[str, ColumnType], proven: Collection[str]) -> dict[str, str]:
    """Return the SQL of each column's value, which fails where a text does not fit."""
    return {
        name: identifier(name) if name in proven else _strict_value(column_type, name)
        for name, column_type in types.items()
    }


def _strict_value(column_type: ColumnType, name: str) -> str:
    expression = column_type.expression(name)
    if not column_type.mismatch(name):
        return expression
    strict = f"coalesce({expression}, error('mismatch'))"
    return (
        strict
        if column_type.required
        else f"CASE WHEN {identifier(name)} IS NOT NULL THEN {strict} END"
    )


def _read_mismatches(path: Path) -> Iterator[TypeMismatch]:
    with path.open(encoding="utf-8", newline="") as file:
        for number, column, value in csv.reader(file):
            yield TypeMismatch(int(number), column, value)


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
