"""The quarantine: bad lines with line number, column, reason and raw text, as a CSV.

Its texts come from uploads, and people open it in a spreadsheet: they are escaped in every
quarantine file, and only there.
"""

import csv
import heapq
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from twinlane_tasks.csv import QuarantinedLine
from worker_cpu.formula_escaping import escape_cell, unescape_cell

MAX_RAW_BYTES: Final = 16 * 1024
"""The most that is kept of a line; the csv module reads no field above 128 KiB."""

PREVIEW_LINES: Final = 20
_PREVIEW_CHARACTERS: Final = 200
_HEADER: Final = ("line", "column", "reason", "raw")


class BadLine(NamedTuple):
    """A row of the quarantine; `line` counts from 1, as an editor does."""

    line: int
    column: str | None
    reason: str
    raw: str


class QuarantineWriter:
    """Writes a quarantine file, and counts its lines."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._file = path.open("w", encoding="utf-8", newline="")
        # With its default line end \r\n, the csv module quotes a lone \r too, and can read it back.
        self._rows = csv.writer(self._file)
        self._rows.writerow(_HEADER)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, line: int, column: str | None, reason: str, raw: bytes) -> None:
        r"""Append a bad line; bytes that are no UTF-8 are shown as `\xNN`."""
        self.count += 1
        text = raw[:MAX_RAW_BYTES].decode(errors="backslashreplace").rstrip("\r\n")
        # Python 3.11's csv can't read a NUL back.
        bad = BadLine(line, column, reason, text.replace("\0", "\\x00"))
        self._rows.writerow(_to_row(bad))


def read_quarantine(path: Path) -> Iterator[BadLine]:
    """Yield the lines of a quarantine file."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for line, *texts in rows:
            column, reason, raw = map(unescape_cell, texts)
            yield BadLine(int(line), column or None, reason, raw)


def merge_quarantines(sources: Iterable[Path], target: Path) -> int:
    """Merge quarantine files by line number and return how many lines there are."""
    merged = heapq.merge(*map(read_quarantine, sources), key=lambda bad: bad.line)
    with target.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(_HEADER)
        counter = count()
        rows.writerows(_to_row(bad) for bad, _ in zip(merged, counter, strict=False))
    return next(counter)


def preview(path: Path) -> list[QuarantinedLine]:
    """Return the first bad lines, shortened, for the job's result."""
    return [
        QuarantinedLine(
            line=bad.line, column=bad.column, reason=bad.reason, raw=bad.raw[:_PREVIEW_CHARACTERS]
        )
        for bad in islice(read_quarantine(path), PREVIEW_LINES)
    ]


def _to_row(bad: BadLine) -> tuple[int, str, str, str]:
    return bad.line, escape_cell(bad.column or ""), escape_cell(bad.reason), escape_cell(bad.raw)
