"""How DuckDB reads a screened CSV, or a part of one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from worker_cpu.csv_import.dialect import Dialect
from worker_cpu.csv_import.records import MAX_RECORD_BYTES
from worker_cpu.database import quoted


def from_csv(
    files: Sequence[str | Path], dialect: Dialect, types: Mapping[str, str], *, has_header: bool
) -> str:
    """Return the SQL that reads `files`, one after the other, with a type for each column."""
    # Left to guess, DuckDB 2.0 takes a lone \r in the header for the line end: no row is read.
    columns = ", ".join(f"{quoted(name)}: {quoted(kind)}" for name, kind in types.items())
    return (
        f"FROM read_csv([{', '.join(map(quoted, files))}], auto_detect = false,"
        f" header = {has_header}, delim = {quoted(dialect.delimiter)},"
        " quote = '\"', escape = '\"', nullstr = '', strict_mode = true,"
        " new_line = '\\n',"
        f" max_line_size = {2 * MAX_RECORD_BYTES}, columns = {{{columns}}})"
    )


def from_text(files: Sequence[str | Path], dialect: Dialect, *, has_header: bool) -> str:
    """Return the SQL that reads every column of `files` as text."""
    return from_csv(
        files, dialect, dict.fromkeys(dialect.columns, "VARCHAR"), has_header=has_header
    )
