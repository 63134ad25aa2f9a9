"""Records with a text that does not fit its column's type: found, and reported to the quarantine.

Outliers are checked before the file is converted. One that fits all the same (" 5" and "+5" are 5
too) is replaced by what DuckDB reads as that value at once; one that does not is left out.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from worker_cpu.csv_import.column_types import ColumnType
from worker_cpu.csv_import.dialect import Dialect, from_text
from worker_cpu.csv_import.quarantine import QuarantineWriter
from worker_cpu.csv_import.records import RecordShape
from worker_cpu.csv_import.screening import LINE_JUMP, Outlier, ScreenedFile
from worker_cpu.csv_import.segments import Patch
from worker_cpu.database import identifier, quoted

_REASON_CHARACTERS: Final = 100
_FETCHED_ROWS: Final = 1_000


class TypeMismatch(NamedTuple):
    """A text that does not fit its column's type."""

    number: int
    """The number of its record, from 0, without the header."""
    column: str
    value: str
    """Empty if a required value is missing."""


def mismatch_conditions(types: Mapping[str, ColumnType]) -> dict[str, str]:
    """Return the SQL condition of a mismatch in each column that may have one."""
    conditions = {name: column_type.mismatch(name) for name, column_type in types.items()}
    return {name: condition for name, condition in conditions.items() if condition}


def first_mismatch(types: Mapping[str, ColumnType]) -> str:
    """Return the SQL of a record's first [column, value] that does not fit, or of NULL."""
    cases = [
        f"WHEN {mismatch} THEN [{quoted(name)}, left({identifier(name)}, {_REASON_CHARACTERS})]"
        for name, mismatch in mismatch_conditions(types).items()
    ]
    return f"CASE {' '.join(cases)} END" if cases else "NULL::VARCHAR[]"


class MismatchReport:
    """Writes mismatches to a quarantine file, in the order of the file."""

    def __init__(
        self,
        screened: ScreenedFile,
        dialect: Dialect,
        types: Mapping[str, ColumnType],
        quarantine: QuarantineWriter,
    ) -> None:
        self._types = types
        self._quarantine = quarantine
        self._first_number = 1 if dialect.has_header else 0
        self._jumps = _line_jumps(screened.line_jumps)
        self._next_jump = next(self._jumps, None)
        self._offset = 1

    def add(self, mismatch: TypeMismatch, record: bytes) -> None:
        """Report a mismatch, with the text of its record."""
        _, column, value = mismatch
        reason = f"{value!r} is not of type {self._types[column].name}" if value else "is empty"
        self._quarantine.add(self._line(mismatch.number), column, reason, record)

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
class CheckedOutliers:
    """Which outliers fit their types, in the order of the file."""

    patches: list[Patch] = field(default_factory=list)
    """What DuckDB reads instead of each."""
    mismatches: list[tuple[TypeMismatch, bytes]] = field(default_factory=list)
    """Those that do not fit and are left out, with their text."""

    @property
    def left_out(self) -> list[int]:
        """The numbers of the records that are left out."""
        return [mismatch.number for mismatch, _ in self.mismatches]


def check_outliers(
    connection: duckdb.DuckDBPyConnection,
    screened: ScreenedFile,
    dialect: Dialect,
    types: Mapping[str, ColumnType],
    proven: Collection[str],
) -> CheckedOutliers:
    """Check the outliers against these types; DuckDB will read `proven` columns as theirs."""
    checked = CheckedOutliers()
    if not screened.outliers:
        return checked
    copy = screened.line_jumps.with_name("outliers.csv")
    texts = _write_outliers(screened.path, screened.outliers, copy)
    rows = _checked_rows(connection, copy, dialect, types, proven)
    shape = RecordShape(dialect.delimiter, dialect.columns)
    for outlier, text, (mismatch, *values) in zip(screened.outliers, texts, rows, strict=True):
        if mismatch:
            checked.mismatches.append((TypeMismatch(outlier.number, *mismatch), text))
        line = b"" if mismatch else shape.line([value or "" for value in values])
        checked.patches.append(Patch(outlier.start, outlier.end, line))
    return checked


def _write_outliers(source: Path, outliers: Sequence[Outlier], target: Path) -> list[bytes]:
    """Copy the outliers to the file `target` and return the text of each."""
    texts = []
    with source.open("rb") as file:
        for outlier in outliers:
            file.seek(outlier.start)
            texts.append(file.read(outlier.end - outlier.start))
    if not texts[-1].endswith(b"\n"):  # the last line of the file
        texts[-1] += b"\n"
    target.write_bytes(b"".join(texts))
    return texts


def _checked_rows(
    connection: duckdb.DuckDBPyConnection,
    source: Path,
    dialect: Dialect,
    types: Mapping[str, ColumnType],
    proven: Collection[str],
) -> Iterator[tuple[list[str] | None, *tuple[str | None, ...]]]:
    """Yield for each outlier the [column, value] that does not fit, or None, and its texts."""
    texts = [
        f"({column_type.expression(name)})::VARCHAR" if name in proven else identifier(name)
        for name, column_type in types.items()
    ]
    result = connection.execute(
        f"SELECT {', '.join([first_mismatch(types), *texts])}"
        f" {from_text([source], dialect, has_header=False)}"
    )
    while rows := result.fetchmany(_FETCHED_ROWS):
        yield from rows
