"""The screened file as virtual files of equally many records, so that threads share it evenly.

DuckDB's parallel COPY of one CSV makes row groups of other sizes in each run. If every row group
is read from a file of its own, they are the same in each run.
"""

import io
import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from fsspec.spec import AbstractFileSystem  # type: ignore[import-untyped]
from numpy.typing import NDArray

from worker_cpu.csv_import.records import NEWLINE, QUOTE

PROTOCOL: Final = "segment"
MARK_RECORDS: Final = 2_048
"""The size of DuckDB's vector: row groups of a multiple of it are written as they are read."""

_MOST_BYTES: Final = 7_500_000
"""DuckDB reads at most 8 MB of a file as one piece."""


class RecordMarks:
    """Where every MARK_RECORDS-th record begins in the screened file, in bytes."""

    def __init__(self, *, has_header: bool) -> None:
        self.starts: list[int] = []
        self.size_bytes = 0
        self.records = -has_header

    def add(self, ends: NDArray[np.int64]) -> None:
        """Count records, each up to the newline at one of `ends`, from the last one on."""
        wanted = np.arange(-self.records % MARK_RECORDS, len(ends), MARK_RECORDS)
        starts = np.where(wanted > 0, ends[wanted - 1] + 1, 0) + self.size_bytes
        self.starts += starts.tolist()
        self.records += len(ends)
        self.size_bytes += int(ends[-1]) + 1


@dataclass(frozen=True)
class RecordIndex:
    """Where the records of a screened file begin, in bytes; they are numbered from 0."""

    path: Path
    size_bytes: int
    records: int
    mark_starts: Sequence[int]
    """The `starts` of the RecordMarks."""

    def start_of(self, record: int) -> int:
        """Return where a record begins, for which up to MARK_RECORDS records are read."""
        mark, beyond = divmod(record, MARK_RECORDS)
        start = self.mark_starts[mark]
        if not beyond:
            return start
        [end] = self.mark_starts[mark + 1 : mark + 2] or [self.size_bytes]
        with self.path.open("rb", buffering=0) as file:
            data = np.frombuffer(os.pread(file.fileno(), end - start, start), np.uint8)
        newlines = np.flatnonzero(data == NEWLINE)
        quotes = np.flatnonzero(data == QUOTE)
        ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
        return start + int(ends[beyond - 1]) + 1


@dataclass(frozen=True)
class Segments:
    """Parts of a file, each of `rows` records but the last one: (first byte, bytes)."""

    rows: int
    parts: list[tuple[int, int]]


def divide(index: RecordIndex, most_rows: int) -> Segments | None:
    """Divide a file into segments of up to `most_rows`; None if one would be too long to read."""
    for marks in range(max(1, most_rows // MARK_RECORDS), 0, -1):
        segments = _between(index.mark_starts[::marks], index, marks * MARK_RECORDS)
        if segments.parts and max(size for _, size in segments.parts) <= _MOST_BYTES:
            return segments
    return None


def divide_without(left_out: Sequence[int], index: RecordIndex, rows: int) -> Segments:
    """Divide a file into segments of `rows` records each, not counting those `left_out`."""
    numbers = np.asarray(left_out, np.int64)
    kept_before = numbers - np.arange(len(numbers))
    kept = np.arange(0, index.records - len(numbers), rows)
    borders = kept + np.searchsorted(kept_before, kept)
    return _between([index.start_of(int(record)) for record in borders], index, rows)


def _between(borders: Sequence[int], index: RecordIndex, rows: int) -> Segments:
    return Segments(
        rows, [(start, end - start) for start, end in pairwise([*borders, index.size_bytes])]
    )


class Patch(NamedTuple):
    """What replaces the bytes from `start` up to `end`."""

    start: int
    end: int
    text: bytes


class Patches:
    """Patches of one file, which do not overlap."""

    def __init__(self, patches: Sequence[Patch] = ()) -> None:
        """Take patches in the order of the file."""
        self._patches = patches
        self._starts = [patch.start for patch in patches]

    def size_bytes(self, first: int, size: int) -> int:
        """Return how long the part of `size` bytes from byte `first` on is when patched."""
        return size + sum(
            len(patch.text) - (min(patch.end, first + size) - patch.start)
            for patch in self._within(first, size)
        )

    def applied(self, content: bytes, first: int) -> bytes:
        """Return `content`, the part of the file from byte `first` on, when patched."""
        pieces = []
        done = 0
        for patch in self._within(first, len(content)):
            pieces += [content[done : patch.start - first], patch.text]
            done = patch.end - first
        return b"".join([*pieces, content[done:]]) if pieces else content

    def _within(self, first: int, size: int) -> Sequence[Patch]:
        begin = bisect_left(self._starts, first)
        return self._patches[begin : bisect_left(self._starts, first + size, lo=begin)]


class SegmentFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The segments of one file, for DuckDB to read."""

    protocol = PROTOCOL
    cachable = False

    def __init__(
        self,
        path: Path,
        segments: Segments,
        *,
        check: Callable[[bytes], None] | None = None,
        patches: Patches | None = None,
    ) -> None:
        """Serve patched segments; `check` gets each as whole lines before DuckDB reads it."""
        super().__init__()
        self.error: Exception | None = None
        """Why a segment could not be opened, which is not in the error that DuckDB raises."""
        self._path = path
        self._segments = segments
        self._check = check
        self._patches = patches or Patches()
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The addresses of the segments for DuckDB."""
        return [f"{PROTOCOL}://{number}" for number in range(len(self._segments.parts))]

    @property
    def rows(self) -> int:
        """How many records each segment has, but the last one."""
        return self._segments.rows

    def info(self, path: str, **_: object) -> dict[str, Any]:
        """Describe a segment as fsspec asks for it."""
        return {
            "name": path,
            "size": self._patches.size_bytes(*self._part(path)),
            "type": "file",
        }

    def glob(self, path: str, **_: object) -> list[str]:
        """Return the name itself: there are no patterns."""
        return [path]

    def _open(self, path: str, mode: str = "rb", **_: object) -> io.BytesIO:  # noqa: ARG002 - fsspec
        try:
            return io.BytesIO(self._content(*self._part(path)))
        except Exception as exc:
            self.error = exc
            raise

    def _content(self, first: int, size: int) -> bytes:
        with self._path.open("rb", buffering=0) as file:
            content = os.pread(file.fileno(), size, first)
        content = self._patches.applied(content, first)
        if self._check:
            is_last = (first, size) == self._segments.parts[-1]
            with self._lock:  # two threads of Python would only slow each other down
                self._check(content + b"\n" if is_last and not content.endswith(b"\n") else content)
        return content

    def _part(self, path: str) -> tuple[int, int]:
        return self._segments.parts[int(path.removeprefix(f"{PROTOCOL}://"))]
