"""Screens a CSV while DuckDB reads it, so that a file without fault is read only once.

A survey presumes what the file is: one record per line, typed as its beginning. Every byte is
screened nevertheless, before DuckDB reads it. Where the file may be something else, the attempt
ends, and the file is screened and converted like any other (screening.py, conversion.py), with the
same result.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker_cpu.csv_import.blocks import WellFormedBlock, well_formed_block
from worker_cpu.csv_import.column_facts import ColumnFacts, common_facts
from worker_cpu.csv_import.records import MAX_RECORD_BYTES, NEWLINE, QUOTE, RecordShape
from worker_cpu.csv_import.screening import ScreenedFile
from worker_cpu.csv_import.segments import RecordMarks

_BLOCK_BYTES: Final = 512 * 1024
"""What is screened at a time: NumPy's arrays of it fit into a processor's own cache."""
_SURVEYED_BYTES: Final = 256 * 1024


class PresumptionError(Exception):
    """The file is not what it was presumed to be."""


def survey(
    source: Path, shape: RecordShape, folder: Path, *, has_header: bool
) -> ScreenedFile | None:
    """Presume the outcome of a screening, with the facts of the file's beginning.

    None if the file can't be read in one pass: there are quotes, or more or fewer delimiters than
    its lines must have.
    """
    marks = RecordMarks(has_header=has_header)
    delimiters = 0
    begun = 0  # bytes of the line that goes on in the next block
    facts = None
    for block in _blocks(source):
        facts = facts or _facts_of(block.tobytes(), shape, has_header=has_header)
        if facts is None or (block == QUOTE).any() or begun > MAX_RECORD_BYTES:
            return None
        ends = np.flatnonzero(block == NEWLINE)
        if len(ends):
            marks.add(ends + begun)
        begun = len(block) - int(ends[-1]) - 1 if len(ends) else begun + len(block)
        delimiters += int(np.count_nonzero(block == shape.delimiter[0]))
    if begun:
        marks.add(np.array([begun]))
    if facts is None or delimiters != (marks.records + has_header) * (len(shape.columns) - 1):
        return None
    line_jumps = folder / "line_jumps"
    line_jumps.touch()
    return ScreenedFile(
        path=source,
        line_jumps=line_jumps,
        well_formed=marks.records,
        malformed=0,
        facts=facts,
        outliers=[],
        mark_starts=marks.starts,
    )


def _blocks(source: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the file's bytes, each time in the same buffer."""
    buffer = np.empty(_SURVEYED_BYTES, np.uint8)
    with source.open("rb", buffering=0) as file:
        while size := file.readinto(buffer.data):
            yield buffer[:size]


def _facts_of(
    beginning: bytes, shape: RecordShape, *, has_header: bool
) -> list[ColumnFacts] | None:
    anything = [ColumnFacts()] * len(shape.columns)
    if not beginning.endswith(b"\n") and len(beginning) < _SURVEYED_BYTES:
        beginning += b"\n"
    header_end = beginning.find(b"\n") + 1 if has_header else 0
    if header_end and well_formed_block(beginning[:header_end], shape, anything) is None:
        return None
    block = well_formed_block(beginning[header_end:], shape, anything)
    return block.facts if block else None


class PresumptionCheck:
    """Checks the segments that DuckDB reads against what was presumed of the file."""

    def __init__(
        self,
        shape: RecordShape,
        presumed: list[ColumnFacts],
        suffices: Callable[[list[ColumnFacts]], bool],
    ) -> None:
        """Begin with `presumed` facts; `suffices` returns whether facts prove what they must."""
        self.records = 0
        self._shape = shape
        self._facts = presumed
        self._suffices = suffices

    def check(self, lines: bytes) -> None:
        """Screen whole lines.

        Raises:
            PresumptionError: they may hold a fault, or a field that does not fit its column's type.

        """
        start = 0
        while start < len(lines):
            end = lines.find(b"\n", start + _BLOCK_BYTES) + 1 or len(lines)
            block = well_formed_block(lines[start:end], self._shape, self._facts)
            if block is None or block.size_bytes < end - start or not self._add(block):
                raise PresumptionError
            start = end

    def _add(self, block: WellFormedBlock) -> bool:
        """Add what a block holds and return whether the facts still suffice."""
        self.records += len(block.ends)
        self._facts = common_facts(self._facts, block.facts)
        return self._suffices(self._facts)
