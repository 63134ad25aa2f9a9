"""Imports any CSV as a typed Parquet, a quarantine and a profile; every record is counted."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from twinlane_sdk.errors import RejectedError
from twinlane_tasks.csv import ColumnProfile, QuarantinedLine
from worker_cpu.csv_import.conversion import Conversion
from worker_cpu.csv_import.dialect import Dialect, detect_dialect
from worker_cpu.csv_import.one_pass import survey
from worker_cpu.csv_import.profile import profile_columns, write_profile
from worker_cpu.csv_import.quarantine import QuarantineWriter, merge_quarantines, preview
from worker_cpu.csv_import.records import RecordShape
from worker_cpu.csv_import.screening import ScreenedFile, Screening, unified_newlines
from worker_cpu.csv_import.source import UTF_8, declared_encoding, detect_encoding, utf8_chunks
from worker_cpu.database import Database
from worker_cpu.progress import Progress

DATA: Final = "data.parquet"
QUARANTINE: Final = "quarantine.csv"
PROFILE: Final = "profile.json"

_MALFORMED: Final = "malformed_lines.csv"
_MISMATCHED: Final = "mismatched_lines.csv"
_DIALECT_SAMPLE_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class CsvImport:
    """The outcome of an import; the three files are in `folder`."""

    folder: Path
    encoding: str
    dialect: Dialect
    rows_in: int
    rows_clean: int
    rows_quarantined: int
    columns: list[ColumnProfile]
    quarantine_preview: list[QuarantinedLine]


def import_csv(
    source: Path, scratch: Path, database: Database, max_columns: int, progress: Progress
) -> CsvImport:
    """Read a CSV of any encoding and dialect into DATA, QUARANTINE and PROFILE within `scratch`.

    Raises:
        RejectedError: the file is empty, no text, or has more than `max_columns` columns.
        RuntimeError: the counts do not agree, so records were lost: a bug.

    """
    with database.connect(scratch) as connection:
        conversion = _SourceConversion(source, scratch, connection, max_columns, progress)
        done = conversion.in_one_pass() or conversion.in_two_passes()
        columns = profile_columns(connection, scratch / DATA)
    write_profile(columns, scratch / PROFILE)
    faulty = [path for path in (scratch / _MALFORMED, scratch / _MISMATCHED) if path.exists()]
    quarantined = merge_quarantines(faulty, scratch / QUARANTINE)
    _check_counts(done.records, done.clean, quarantined)
    return CsvImport(
        folder=scratch,
        encoding=done.encoding,
        dialect=done.dialect,
        rows_in=done.records,
        rows_clean=done.clean,
        rows_quarantined=quarantined,
        columns=columns,
        quarantine_preview=preview(scratch / QUARANTINE),
    )


@dataclass(frozen=True)
class _Converted:
    """How DATA was made, and of how many records: those in the file, and the clean ones."""

    encoding: str
    dialect: Dialect
    records: int
    clean: int


@dataclass(frozen=True)
class _SourceConversion:
    """The two ways to convert a CSV to DATA, of which both write the same."""

    source: Path
    scratch: Path
    connection: duckdb.DuckDBPyConnection
    max_columns: int
    progress: Progress

    def in_one_pass(self) -> _Converted | None:
        """Convert a file that seems to be UTF-8 without fault or quotes; None if it is not."""
        if declared_encoding(self.source):
            return None
        try:
            dialect = self._dialect(UTF_8)
        except RejectedError:  # it may be valid in another encoding
            return None
        shape = RecordShape(dialect.delimiter, dialect.columns)
        presumed = survey(self.source, shape, self.scratch, has_header=dialect.has_header)
        if presumed is None:
            return None
        clean = self._conversion(presumed, dialect).run_in_one_pass()
        return None if clean is None else _Converted(UTF_8, dialect, presumed.records, clean)

    def in_two_passes(self) -> _Converted:
        """Screen the file, then convert what is well-formed."""
        encoding = detect_encoding(self.source)
        dialect = self._dialect(encoding)
        screened = self._screened(encoding, dialect)
        with QuarantineWriter(self.scratch / _MISMATCHED) as mismatches:
            clean = self._conversion(screened, dialect).run(mismatches)
        return _Converted(encoding, dialect, screened.records, clean)

    def _conversion(self, screened: ScreenedFile, dialect: Dialect) -> Conversion:
        target = self.scratch / DATA
        return Conversion(self.connection, screened, dialect, self.scratch, target, self.progress)

    def _dialect(self, encoding: str) -> Dialect:
        return detect_dialect(_beginning(self.source, encoding), self.max_columns)

    def _screened(self, encoding: str, dialect: Dialect) -> ScreenedFile:
        with QuarantineWriter(self.scratch / _MALFORMED) as faults:
            screening = Screening(
                RecordShape(dialect.delimiter, dialect.columns),
                self.source if encoding == UTF_8 else None,
                self.scratch,
                faults,
                has_header=dialect.has_header,
            )
            return screening.run(_reported_chunks(self.source, encoding, self.progress))


def _beginning(source: Path, encoding: str) -> str:
    """Return whole lines from the beginning of the text."""
    chunk = next(iter(utf8_chunks(source, encoding)), b"")
    chunk = b"".join(unified_newlines([chunk], before_change=lambda: None))
    text = chunk[:_DIALECT_SAMPLE_BYTES].decode(errors="replace").lstrip("\n")
    text = text.replace("\r", " ")  # the csv module would end a line there
    if not text.strip():
        raise RejectedError("the file is empty: it has not even a header line")
    if len(chunk) <= _DIALECT_SAMPLE_BYTES:
        return text
    return text[: text.rfind("\n") + 1] or text


def _reported_chunks(source: Path, encoding: str, progress: Progress) -> Iterator[bytes]:
    """Yield the text as UTF-8 and report how much of it was screened."""
    size = source.stat().st_size
    done = 0
    for chunk in utf8_chunks(source, encoding):
        yield chunk
        done += len(chunk)
        # Transcoded text has other lengths than the file.
        progress(min(done, size), size, "bytes", "checking every record")


def _check_counts(records: int, clean: int, quarantined: int) -> None:
    if records != clean + quarantined:
        raise RuntimeError(
            f"{records} records were counted in the file, but {clean} are clean and {quarantined}"
            " in quarantine: nothing was imported"
        )
