"""Turns a screened CSV into a typed Parquet; what does not fit its column's type is set aside."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from worker_cpu.column_facts import ColumnFacts
from worker_cpu.column_types import TEXT, Reading, infer_readings
from worker_cpu.dialect import Dialect
from worker_cpu.engine import execute_watched, identifier, one_thread, quoted
from worker_cpu.one_pass import DoubtError, Proof
from worker_cpu.progress import Progress
from worker_cpu.quarantine import QuarantineWriter
from worker_cpu.records import MAX_RECORD_BYTES, RecordShape
from worker_cpu.screening import LINE_JUMP, Screened
from worker_cpu.segments import MARK_RECORDS, PROTOCOL, SegmentFiles, Segments, divide

PARQUET: Final = "FORMAT parquet, COMPRESSION zstd"

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
        readings = self._readings()
        try:
            return self._write_all(readings, target, progress, look=lambda _: None)
        except _MISFIT:
            readings |= dict.fromkeys(self._misjudged(readings), TEXT)
        clean = self._write_fitting(readings, target, progress)
        self._set_aside(readings, faults)
        return clean

    def run_presumed(self, target: Path, progress: Progress) -> int | None:
        """Write the rows to `target` while they are screened, and return how many.

        None if the file is not what `screened` presumes: then `target` is worth nothing.
        """
        if self._segments() is None:
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
            clean = self._write_all(readings, target, progress, proof.look)
        except _MISFIT:
            return None
        except (DoubtError, duckdb.Error):  # from its threads, DuckDB hands on errors as its own
            if not proof.in_doubt:
                raise
            return None
        return clean if proof.records == self.screened.well_formed else None

    def _readings(self) -> dict[str, Reading]:
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE sample AS {self._text()} "
            f" LIMIT {min(_SAMPLE_ROWS, _SAMPLE_CELLS // len(self.dialect.columns))}"
        )
        return infer_readings(self.connection, "sample", self.dialect.columns)

    def _write_all(
        self,
        readings: Mapping[str, Reading],
        target: Path,
        progress: Progress,
        look: Callable[[bytes], None],
    ) -> int:
        """Write every row to `target` and return how many; a misfit is an error.

        What the screening has proven of a column, DuckDB reads as its type at once. Of the others
        it reads the text, which is cast and looked at.
        """
        proven = self._proven(readings, self.screened.facts)
        types = {name: readings[name].type if name in proven else "VARCHAR" for name in readings}
        values = {
            name: identifier(name) if name in proven else _strict_value(reading, name)
            for name, reading in readings.items()
        }
        segments = self._segments()
        if segments is None:  # without them, several threads would make other groups every time
            with one_thread(self.connection):
                return self._write(values, self._read(types), target, self._group_rows(), progress)
        with self._served(segments, look):
            source = self._read(types, segments)
            return self._write(values, source, target, segments.rows, progress)

    def _proven(self, readings: Mapping[str, Reading], facts: Sequence[ColumnFacts]) -> set[str]:
        """Return the columns that these facts of each column allow to be read as their type."""
        return {
            name
            for name, known in zip(self.dialect.columns, facts, strict=True)
            if readings[name].is_proven(known)
        }

    def _segments(self) -> Segments | None:
        size_bytes = self.screened.path.stat().st_size
        return divide(self.screened.mark_starts, size_bytes, self._group_rows())

    def _write_fitting(
        self, readings: Mapping[str, Reading], target: Path, progress: Progress
    ) -> int:
        """Write the rows that fit to `target` and return how many there are.

        DuckDB casts everything twice for that, so it is not tried first.
        """
        values = {name: reading.expression(name) for name, reading in readings.items()}
        fitting = " AND ".join(f"NOT {fault}" for fault in _faults(readings).values())
        where = f" WHERE {fitting}" if fitting else ""
        # Threads would make row groups of other sizes every time.
        with one_thread(self.connection):
            return self._write(values, self._text() + where, target, self._group_rows(), progress)

    def _text(self) -> str:
        return self._read(dict.fromkeys(self.dialect.columns, "VARCHAR"))

    def _read(self, types: Mapping[str, str], segments: Segments | None = None) -> str:
        # Left to guess, DuckDB 2.0 takes a lone \r in the header for the line end: no row is read.
        columns = ", ".join(f"{quoted(name)}: {quoted(kind)}" for name, kind in types.items())
        names = segments.names if segments else [self.screened.path]
        has_header = self.dialect.has_header and not segments
        return (
            f"FROM read_csv([{', '.join(map(quoted, names))}], auto_detect = false,"
            f" header = {has_header}, delim = {quoted(self.dialect.delimiter)},"
            f" quote = '\"', escape = '\"', nullstr = '', strict_mode = true,"
            " new_line = '\\n',"
            f" max_line_size = {2 * MAX_RECORD_BYTES}, columns = {{{columns}}})"
        )

    @contextmanager
    def _served(self, segments: Segments, look: Callable[[bytes], None]) -> Iterator[None]:
        """Let DuckDB read the segments of the screened file."""
        self.connection.register_filesystem(SegmentFiles(self.screened.path, segments, look))
        try:
            yield
        finally:
            self.connection.unregister_filesystem(PROTOCOL)

    def _write(
        self,
        values: Mapping[str, str],
        source: str,
        target: Path,
        group_rows: int,
        progress: Progress,
    ) -> int:
        def watch(share: float) -> None:
            total = self.screened.well_formed
            progress(round(share * total), total, "rows", "converting")

        columns = ", ".join(f"{value} AS {identifier(name)}" for name, value in values.items())
        return execute_watched(
            self.connection,
            f"COPY (SELECT {columns} {source}) TO {quoted(target)}"
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


def _strict_value(reading: Reading, name: str) -> str:
    """Return the SQL of a column's value, which fails where its text does not fit."""
    expression = reading.expression(name)
    if not reading.fault(name):
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
