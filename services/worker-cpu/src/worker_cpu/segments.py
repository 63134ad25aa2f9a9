"""The screened file as virtual files of equally many records, so that threads share it evenly.

DuckDB's parallel COPY of one CSV makes row groups of different sizes in every run. When each of
its pieces is a file with just the records of one row group, they are the same every time.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from fsspec.spec import AbstractFileSystem  # type: ignore[import-untyped]
from numpy.typing import NDArray

PROTOCOL: Final = "segment"
MARK_RECORDS: Final = 2_048
"""DuckDB's vector: a row group of so many rows, or a multiple, is written as it comes."""

_MOST_BYTES: Final = 7_500_000
"""DuckDB reads at most 8 MB of a file as one piece."""


class RecordMarks:
    """Where every MARK_RECORDS-th record begins in the screened file, in bytes."""

    def __init__(self, *, has_header: bool) -> None:
        self.starts: list[int] = []
        self.size_bytes = 0
        self._records = -has_header

    def add(self, ends: NDArray[np.int64]) -> None:
        """Count records, each up to the newline at one of `ends`, from the last one on."""
        wanted = np.arange(-self._records % MARK_RECORDS, len(ends), MARK_RECORDS)
        starts = np.where(wanted > 0, ends[wanted - 1] + 1, 0) + self.size_bytes
        self.starts += starts.tolist()
        self._records += len(ends)
        self.size_bytes += int(ends[-1]) + 1


@dataclass(frozen=True)
class Segments:
    """Parts of a file, each of `rows` records but the last one: (first byte, bytes)."""

    rows: int
    parts: list[tuple[int, int]]

    @property
    def names(self) -> list[str]:
        """What DuckDB knows the parts by."""
        return [f"{PROTOCOL}://{number}" for number in range(len(self.parts))]


def divide(starts: Sequence[int], size_bytes: int, most_rows: int) -> Segments | None:
    """Divide a file into segments of up to `most_rows`; None if one would be too long to be read.

    `starts` are those of the RecordMarks.
    """
    for marks in range(max(1, most_rows // MARK_RECORDS), 0, -1):
        borders = [*starts[::marks], size_bytes]
        parts = [(start, end - start) for start, end in pairwise(borders)]
        if parts and max(size for _, size in parts) <= _MOST_BYTES:
            return Segments(marks * MARK_RECORDS, parts)
    return None


class SegmentFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The segments of one file, for DuckDB to read."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self, path: Path, segments: Segments) -> None:
        super().__init__()
        self._path = path
        self._segments = segments

    def info(self, path: str, **_: object) -> dict[str, Any]:
        """Describe a segment as fsspec asks for it."""
        return {"name": path, "size": self._part(path)[1], "type": "file"}

    def glob(self, path: str, **_: object) -> list[str]:
        """Return the name itself: there are no patterns."""
        return [path]

    def _open(self, path: str, mode: str = "rb", **_: object) -> "_Segment":  # noqa: ARG002 - fsspec
        return _Segment(self._path, *self._part(path))

    def _part(self, path: str) -> tuple[int, int]:
        return self._segments.parts[int(path.removeprefix(f"{PROTOCOL}://"))]


class _Segment(io.RawIOBase):
    """Some bytes of a file, as a file."""

    def __init__(self, path: Path, first: int, size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._first = first
        self._size = size
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        wanted = left if size < 0 else min(size, left)
        data = os.pread(self._file.fileno(), wanted, self._first + self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
