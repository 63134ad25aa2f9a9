"""From any CSV to a typed Parquet, a quarantine and a profile, with every record accounted for."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts.errors import RejectedError
from contracts.schemas import ColumnProfile, QuarantinedLine
from worker_cpu.conversion import Conversion
from worker_cpu.dialect import Dialect, detect_dialect
from worker_cpu.encoding import UTF_8, detect_encoding, utf8_chunks
from worker_cpu.engine import Engine
from worker_cpu.profiling import profile_columns, write_profile
from worker_cpu.progress import Progress
from worker_cpu.quarantine import QuarantineWriter, merge_quarantines, preview
from worker_cpu.records import RecordShape
from worker_cpu.screening import Screened, Screening, unified_newlines

DATA: Final = "data.parquet"
QUARANTINE: Final = "quarantine.csv"
PROFILE: Final = "profile.json"

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
    screened = _screen(source, encoding, dialect, scratch, progress)
    with engine.connect(scratch) as connection:
        with QuarantineWriter(scratch / "misfit_lines.csv") as misfits:
            conversion = Conversion(connection, screened, dialect, scratch)
            clean = conversion.run(scratch / DATA, misfits, progress)
        columns = profile_columns(connection, scratch / DATA)
    write_profile(columns, scratch / PROFILE)
    faulty = [scratch / "malformed_lines.csv", scratch / "misfit_lines.csv"]
    quarantined = merge_quarantines(faulty, scratch / QUARANTINE)
    _check(screened.records, clean, quarantined)
    return CsvImport(
        folder=scratch,
        encoding=encoding,
        dialect=dialect,
        rows_in=screened.records,
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


def _screen(
    source: Path, encoding: str, dialect: Dialect, scratch: Path, progress: Progress
) -> Screened:
    shape = RecordShape(dialect.delimiter, dialect.columns)
    with QuarantineWriter(scratch / "malformed_lines.csv") as faults:
        screening = Screening(
            shape,
            source if encoding == UTF_8 else None,
            scratch,
            faults,
            has_header=dialect.has_header,
        )
        return screening.run(_watched_chunks(source, encoding, progress))


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
