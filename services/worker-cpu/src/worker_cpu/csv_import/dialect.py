"""The delimiter and the columns of a CSV, found in its first lines; how DuckDB reads them."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from twinlane_sdk.errors import RejectedError
from worker_cpu.csv_import.records import MAX_RECORD_BYTES
from worker_cpu.database import quoted

DELIMITERS: Final = (",", ";", "\t", "|")

_SAMPLE_RECORDS: Final = 200
_MAX_NAME_CHARACTERS: Final = 200
_VALUE: Final = re.compile(
    r"\s*(?:[+-]?[\d.,]*\d[\d.,]*|\d{4}-\d\d?-\d\d?.*|\d\d?/\d\d?/\d{4}.*)\s*"
)
"""A number or a date: which the name of a column hardly ever is."""
_YEAR: Final = re.compile(r"\s*(?:19|20)\d\d\s*")


@dataclass(frozen=True)
class Dialect:
    """How a CSV is written. Values may be in double quotes, doubled within."""

    delimiter: str
    columns: tuple[str, ...]
    has_header: bool


def detect_dialect(sample: str, max_columns: int) -> Dialect:
    """Find the delimiter by which most lines have as many columns as the first one.

    The first line is the header, unless it holds numbers or dates where the other lines do.

    Raises:
        RejectedError: there are more than `max_columns` columns.

    """
    delimiter = max(DELIMITERS, key=lambda candidate: _agreement(sample, candidate))
    records = _records(sample, delimiter)
    first = records[0] if records else [""]
    if len(first) > max_columns:
        raise RejectedError(f"the file has {len(first):,} columns; at most {max_columns:,} work")
    has_header = _has_header(first, records[1:])
    return Dialect(delimiter, _unique(first if has_header else [""] * len(first)), has_header)


def _agreement(sample: str, delimiter: str) -> tuple[int, int]:
    records = _records(sample, delimiter)
    width = len(records[0]) if records else 1
    if width == 1:
        return 0, 0
    return sum(len(record) == width for record in records), width


def _records(sample: str, delimiter: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        return list(islice((record for record in reader if record), _SAMPLE_RECORDS))
    except csv.Error:  # a field beyond the module's limit, or a NUL
        header = sample.splitlines()[0]
        return [header.split(delimiter)]


def _has_header(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    score = 0
    for index, cell in enumerate(first):
        values = [record[index] for record in others if len(record) > index and record[index]]
        of_values = sum(_VALUE.fullmatch(value) is not None for value in values)
        if values and 2 * of_values <= len(values):
            continue  # in a column of text, a header looks like the values
        if not _VALUE.fullmatch(cell):
            score += 1
        elif not _YEAR.fullmatch(cell):  # a year may be the name of a column
            score -= 1
    return score >= 0


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return a name for every column, all of them different, also without regard to case."""
    taken: set[str] = set()
    result = []
    for number, name in enumerate(names, 1):
        wanted = " ".join(name.split())[:_MAX_NAME_CHARACTERS] or f"column_{number}"
        candidate, again = wanted, 1
        while candidate.lower() in taken:
            again += 1
            candidate = f"{wanted}_{again}"
        taken.add(candidate.lower())
        result.append(candidate)
    return tuple(result)


def from_csv(
    files: Sequence[str | Path], dialect: Dialect, types: Mapping[str, str], *, has_header: bool
) -> str:
    """Return the SQL that reads `files`, one after the other, with a type for each column."""
    # If it detects line ends, DuckDB 2.0 takes a lone \r in the header for one: it reads no row.
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
