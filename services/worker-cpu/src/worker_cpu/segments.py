"""The screened file as virtual files of equally many records, so that threads share it evenly.

DuckDB's parallel COPY of one CSV makes row groups of different sizes in every run. When each of
its pieces is a file with just the records of one row group, they are the same every time.
"""

import io
import os
import threading
from collections.abc import Callable, Sequence
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
        self.records = -has_header

    def add(self, ends: NDArray[np.int64]) -> None:
        """Count records, each up to the newline at one of `ends`, from the last one on."""
        wanted = np.arange(-self.records % MARK_RECORDS, len(ends), MARK_RECORDS)
        starts = np.where(wanted > 0, ends[wanted - 1] + 1, 0) + self.size_bytes
        self.starts += starts.tolist()
        self.records += len(ends)
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

    def __init__(self, path: Path, segments: Segments, look: Callable[[bytes], None]) -> None:
        """Serve segments; each is shown to `look`, as whole lines, before it is read."""
        super().__init__()
        self._path = path
        self._segments = segments
        self._look = look
        self._turn = threading.Lock()

    def info(self, path: str, **_: object) -> dict[str, Any]:
        """Describe a segment as fsspec asks for it."""
        return {"name": path, "size": self._part(path)[1], "type": "file"}

    def glob(self, path: str, **_: object) -> list[str]:
        """Return the name itself: there are no patterns."""
        return [path]

    def _open(self, path: str, mode: str = "rb", **_: object) -> io.BytesIO:  # noqa: ARG002 - fsspec
        first, size = self._part(path)
        with self._path.open("rb", buffering=0) as file:
            content = os.pread(file.fileno(), size, first)
        is_last = (first, size) == self._segments.parts[-1]
        with self._turn:  # two threads of Python would only hinder each other
            self._look(content + b"\n" if is_last and not content.endswith(b"\n") else content)
        return io.BytesIO(content)

    def _part(self, path: str) -> tuple[int, int]:
        return self._segments.parts[int(path.removeprefix(f"{PROTOCOL}://"))]
