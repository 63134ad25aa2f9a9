"""From any CSV to a typed Parquet, a quarantine and a profile, with every record accounted for."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from contracts.errors import RejectedError
from contracts.schemas import ColumnProfile, QuarantinedLine
from worker_cpu.conversion import Conversion
from worker_cpu.dialect import Dialect, detect_dialect
from worker_cpu.encoding import UTF_8, detect_encoding, utf8_chunks
from worker_cpu.engine import Engine
from worker_cpu.one_pass import survey
from worker_cpu.profiling import profile_columns, write_profile
from worker_cpu.progress import Progress
from worker_cpu.quarantine import QuarantineWriter, merge_quarantines, preview
from worker_cpu.records import RecordShape
from worker_cpu.screening import Screened, Screening, unified_newlines

DATA: Final = "data.parquet"
QUARANTINE: Final = "quarantine.csv"
PROFILE: Final = "profile.json"

_MALFORMED: Final = "malformed_lines.csv"
_MISFIT: Final = "misfit_lines.csv"
_DIALECT_SAMPLE_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class CsvImport:
    """What became of a CSV; the three files are in `folder`."""

    folder: Path
    encoding: str
    dialect: Dialect
    rows_in: int
    rows_clean: int
    rows_quarantined: int
    columns: list[ColumnProfile]
    quarantine_preview: list[QuarantinedLine]


@dataclass(frozen=True)
class _Text:
    """A CSV, as far as its beginning tells, and a folder for what is made of it."""

    source: Path
    encoding: str
    dialect: Dialect
    scratch: Path

    @property
    def shape(self) -> RecordShape:
        return RecordShape(self.dialect.delimiter, self.dialect.columns)


def import_csv(
    source: Path, scratch: Path, engine: Engine, max_columns: int, progress: Progress
) -> CsvImport:
    """Read a CSV of any encoding and dialect into DATA, QUARANTINE and PROFILE within `scratch`.

    Raises:
        RejectedError: the file is empty, no text, or has more than `max_columns` columns.
        RuntimeError: the counts do not agree, so something was lost on the way: a bug.

    """
    encoding = detect_encoding(source)
    dialect = detect_dialect(_beginning(source, encoding), max_columns)
    with engine.connect(scratch) as connection:
        text = _Text(source, encoding, dialect, scratch)
        rows_in, clean = _converted_at_once(text, connection, progress) or _converted(
            text, connection, progress
        )
        columns = profile_columns(connection, scratch / DATA)
    write_profile(columns, scratch / PROFILE)
    faulty = [path for path in (scratch / _MALFORMED, scratch / _MISFIT) if path.exists()]
    quarantined = merge_quarantines(faulty, scratch / QUARANTINE)
    _check(rows_in, clean, quarantined)
    return CsvImport(
        folder=scratch,
        encoding=encoding,
        dialect=dialect,
        rows_in=rows_in,
        rows_clean=clean,
        rows_quarantined=quarantined,
        columns=columns,
        quarantine_preview=preview(scratch / QUARANTINE),
    )


def _beginning(source: Path, encoding: str) -> str:
    """Return whole lines from the beginning of the text."""
    chunk = next(iter(utf8_chunks(source, encoding)), b"")
    chunk = b"".join(unified_newlines([chunk], before_change=lambda: None))
    text = chunk[:_DIALECT_SAMPLE_BYTES].decode(errors="replace").lstrip("\n")
    text = text.replace("\r", " ")  # to csv it would end a line
    if not text.strip():
        raise RejectedError("the file is empty: it has not even a header line")
    if len(chunk) <= _DIALECT_SAMPLE_BYTES:
        return text
    return text[: text.rfind("\n") + 1] or text


def _converted_at_once(
    text: _Text, connection: duckdb.DuckDBPyConnection, progress: Progress
) -> tuple[int, int] | None:
    """Return the records of a file without fault, all of them clean; None of another."""
    if text.encoding != UTF_8:
        return None
    presumed = survey(
        text.source, text.shape, text.scratch, has_header=text.dialect.has_header
    )
    if presumed is None:
        return None
    conversion = Conversion(connection, presumed, text.dialect, text.scratch)
    rows = conversion.run_presumed(text.scratch / DATA, progress)
    return None if rows is None else (rows, rows)


def _converted(
    text: _Text, connection: duckdb.DuckDBPyConnection, progress: Progress
) -> tuple[int, int]:
    """Return how many records there are, and how many of them are clean."""
    screened = _screen(text, progress)
    with QuarantineWriter(text.scratch / _MISFIT) as misfits:
        conversion = Conversion(connection, screened, text.dialect, text.scratch)
        return screened.records, conversion.run(text.scratch / DATA, misfits, progress)


def _screen(text: _Text, progress: Progress) -> Screened:
    with QuarantineWriter(text.scratch / _MALFORMED) as faults:
        screening = Screening(
            text.shape,
            text.source if text.encoding == UTF_8 else None,
            text.scratch,
            faults,
            has_header=text.dialect.has_header,
        )
        return screening.run(_watched_chunks(text.source, text.encoding, progress))


def _watched_chunks(source: Path, encoding: str, progress: Progress) -> Iterator[bytes]:
    size = source.stat().st_size
    done = 0
    for chunk in utf8_chunks(source, encoding):
        yield chunk
        done += len(chunk)
        # Transcoded text has other lengths than the file.
        progress(min(done, size), size, "bytes", "checking every record")


def _check(records: int, clean: int, quarantined: int) -> None:
    if records != clean + quarantined:
        raise RuntimeError(
            f"{records} records were counted in the file, but {clean} are clean and {quarantined}"
            " in quarantine: nothing was imported"
        )
