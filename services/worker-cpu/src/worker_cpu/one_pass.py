"""Screens a CSV while DuckDB reads it, so that a file without fault is walked once.

A survey presumes what the file is: one record per line, typed as its beginning. Every byte is
screened all the same, before DuckDB gets it. At the first doubt the attempt ends, and the file is
screened and converted as any other (screening.py, conversion.py), with the same result.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from worker_cpu.column_facts import ColumnFacts
from worker_cpu.perfection import PerfectBlock, perfect_block
from worker_cpu.records import MAX_RECORD_BYTES, RecordShape
from worker_cpu.screening import Screened
from worker_cpu.segments import RecordMarks

_BLOCK_BYTES: Final = 512 * 1024
"""What is screened at a time; NumPy's arrays of it stay in a processor's own cache."""
_NEWLINE: Final = ord("\n")


class DoubtError(Exception):
    """The file is not what it was presumed to be."""


def survey(source: Path, shape: RecordShape, folder: Path, *, has_header: bool) -> Screened | None:
    """Presume the outcome of a screening, with the facts of the file's beginning.

    None if an attempt would be in vain: there are quotes, or not as many delimiters as so many
    lines must have.
    """
    marks = RecordMarks(has_header=has_header)
    delimiters = 0
    facts = None
    for block in _lines(source):
        if b'"' in block or not block.endswith(b"\n"):
            return None
        facts = facts or _facts_of(block, shape, has_header=has_header)
        if facts is None:
            return None
        data = np.frombuffer(block, np.uint8)
        marks.add(np.flatnonzero(data == _NEWLINE))
        delimiters += int(np.count_nonzero(data == shape.delimiter[0]))
    if facts is None or delimiters != (marks.records + has_header) * (len(shape.columns) - 1):
        return None
    line_jumps = folder / "line_jumps"
    line_jumps.touch()
    return Screened(
        path=source,
        line_jumps=line_jumps,
        well_formed=marks.records,
        malformed=0,
        facts=facts,
        mark_starts=marks.starts,
    )


def _lines(source: Path) -> Iterator[bytes]:
    """Yield the file in blocks of whole lines, but for a line that is too long for a record.

    The last line gets an end if it has none.
    """
    with source.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            line_rest = file.readline(MAX_RECORD_BYTES)
            ended = line_rest or block.endswith(b"\n")
            yield block + line_rest if ended else block + b"\n"


def _facts_of(block: bytes, shape: RecordShape, *, has_header: bool) -> list[ColumnFacts] | None:
    anything = [ColumnFacts()] * len(shape.columns)
    header_end = block.find(b"\n") + 1 if has_header else 0
    if header_end and perfect_block(block[:header_end], shape, anything) is None:
        return None
    perfect = perfect_block(block[header_end:], shape, anything)
    return perfect.facts if perfect else None


class Proof:
    """What has been seen of the segments that DuckDB has read."""

    def __init__(
        self,
        shape: RecordShape,
        presumed: list[ColumnFacts],
        suffices: Callable[[list[ColumnFacts]], bool],
    ) -> None:
        """Begin with `presumed` facts; `suffices` says whether facts prove all they are to."""
        self.records = 0
        self._shape = shape
        self._facts = presumed
        self._suffices = suffices

    def look(self, lines: bytes) -> None:
        """Screen whole lines.

        Raises:
            DoubtError: there may be a fault in them, or a field not of its column's type.

        """
        start = 0
        while start < len(lines):
            end = lines.find(b"\n", start + _BLOCK_BYTES) + 1 or len(lines)
            perfect = perfect_block(lines[start:end], self._shape, self._facts)
            if perfect is None or perfect.size_bytes < end - start:
                raise DoubtError
            self._learn(perfect)
            start = end

    def _learn(self, perfect: PerfectBlock) -> None:
        self.records += len(perfect.ends)
        self._facts = [
            known & found for known, found in zip(self._facts, perfect.facts, strict=True)
        ]
        if not self._suffices(self._facts):
            raise DoubtError
