"""Sorts a CSV's records by their structure: what DuckDB may read, and what goes to quarantine.

This pass is what every other count is checked against: it walks the bytes without DuckDB. (DuckDB
2.0's own `store_rejects` was measured to keep 1.3 KB per bad line outside its memory limit, to
lose some of them, and to let one unclosed quote swallow the rest of a file.)

A record is one line, or several when a quoted value spans them. Blank lines are none. A file
without fault is left in place; at the first fault, a screened copy is begun.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from contracts.errors import RejectedError
from worker_cpu.csv_import.blocks import PerfectBlock, perfect_block
from worker_cpu.csv_import.column_facts import NOTHING_KNOWN, ColumnFacts
from worker_cpu.csv_import.quarantine import MAX_RAW_BYTES, QuarantineWriter
from worker_cpu.csv_import.records import NEWLINE, Fault, Incomplete, Record, RecordShape
from worker_cpu.csv_import.segments import RecordIndex, RecordMarks

LINE_JUMP: Final = struct.Struct("<qq")
"""(number of a record, its line): an entry wherever the two do not advance together."""

_MOST_OUTLIERS_SHARE: Final = 0.01
"""Of more records than these, a column is not what it seemed to be."""
_MOST_OUTLIERS_BYTES: Final = 16 * 1024 * 1024
"""About the memory that outliers may take; beyond it, no more are noted."""
_OUTLIER_BYTES: Final = 200
"""What Python takes for one, besides its text."""


class Outlier(NamedTuple):
    """A well-formed record of the screened file."""

    number: int
    """From 0, without the header."""
    start: int
    """Its first byte."""
    end: int
    """The byte after its newline."""


class Outliers:
    """Collects the outliers of a file, block by block, and says how many more there may be."""

    def __init__(self) -> None:
        self.found: list[Outlier] = []
        self._size_bytes = 0

    def room(self, records: int) -> int:
        """Return how many more there may be among the first `records` of the file."""
        if self._size_bytes > _MOST_OUTLIERS_BYTES:
            return 0
        return max(0, int(_MOST_OUTLIERS_SHARE * records) - len(self.found))

    def add(self, block: PerfectBlock, number: int, start: int) -> None:
        """Note the outliers of a block; `number` and `start` are those of its first record."""
        for index in block.outliers:
            begin = int(block.ends[index - 1]) + 1 if index else 0
            end = int(block.ends[index]) + 1
            self.found.append(Outlier(number + index, start + begin, start + end))
            self._size_bytes += end - begin + _OUTLIER_BYTES


@dataclass(frozen=True)
class Screened:
    """What the screening found; counts are without the header."""

    path: Path
    line_jumps: Path
    well_formed: int
    malformed: int
    facts: list[ColumnFacts]
    """What holds of each column's fields in all well-formed records but the outliers."""
    outliers: list[Outlier]
    mark_starts: list[int]
    """Where every MARK_RECORDS-th well-formed record begins, in bytes."""

    @property
    def records(self) -> int:
        """How many records the file holds."""
        return self.well_formed + self.malformed

    @property
    def index(self) -> RecordIndex:
        """Where the well-formed records are."""
        return RecordIndex(self.path, self.path.stat().st_size, self.well_formed, self.mark_starts)


class Screening:
    """One pass over a file, block by block."""

    def __init__(
        self,
        shape: RecordShape,
        source: Path | None,
        folder: Path,
        faults: QuarantineWriter,
        *,
        has_header: bool,
    ) -> None:
        """Screen into `folder`; without a `source` the text has no file yet and is copied."""
        self._shape = shape
        self._source = source
        self._copy = folder / "screened.csv"
        self._output: BinaryIO | None = None if source else self._copy.open("wb")
        self._jumps = (folder / "line_jumps").open("wb")
        self._faults = faults
        self._has_header = has_header
        self._marks = RecordMarks(has_header=has_header)
        self._facts = [ColumnFacts()] * len(shape.columns)
        self._outliers = Outliers()
        self._records = 0
        self._lines = 0
        self._intact_bytes = 0
        self._offset = 0
        self._in_endless_line = False

    def run(self, chunks: Iterable[bytes]) -> Screened:
        """Walk the whole file."""
        rest = b""
        for lines in whole_lines(unified_newlines(chunks, before_change=self._begin_copy)):
            block = rest + lines
            rest = block[self._take(block) :]
        if rest:
            self._inspect(rest, self._room(rest), final=True)
        self._jumps.close()
        if self._output:
            self._output.close()
        return Screened(
            path=self._copy if self._output else self._source or self._copy,
            line_jumps=Path(self._jumps.name),
            well_formed=self._records - (self._has_header and self._records > 0),
            malformed=self._faults.count,
            facts=self._facts,
            outliers=self._outliers.found,
            mark_starts=self._marks.starts,
        )

    def _take(self, block: bytes) -> int:
        """Take what is complete in a block and return its length in bytes."""
        room = self._room(block)
        perfect = None if self._in_endless_line else self._perfect(block, room)
        if perfect is None:
            return self._inspect(block, room, final=False)
        if self._output:
            self._output.write(block[: perfect.size_bytes])
        for record, line in perfect.jumps:
            self._jump(self._records + record, self._lines + line)
        header_only = self._has_header and self._records == 0 and len(perfect.ends) == 1
        if not header_only:
            self._learn(perfect, self._marks.records, self._marks.size_bytes)
        self._marks.add(perfect.ends)
        self._records += len(perfect.ends)
        self._lines += perfect.lines
        self._intact_bytes += perfect.size_bytes
        return perfect.size_bytes

    def _room(self, block: bytes) -> int:
        """Return how many outliers a block may have: none as long as there may be the header."""
        if self._has_header and self._records == 0:
            return 0
        return self._outliers.room(self._records + block.count(b"\n"))

    def _perfect(self, block: bytes, room: int) -> PerfectBlock | None:
        return perfect_block(block, self._shape, self._facts, room)

    def _learn(self, perfect: PerfectBlock, number: int, start: int) -> None:
        self._merge(perfect.facts)
        self._outliers.add(perfect, number, start)

    def _merge(self, facts: list[ColumnFacts]) -> None:
        self._facts = [known & found for known, found in zip(self._facts, facts, strict=True)]

    def _inspect(self, block: bytes, room: int, *, final: bool) -> int:
        """Look at a block record by record; return the length of what was complete."""
        number, start = self._marks.records, self._marks.size_bytes
        accepted: list[bytes] = []
        end = self._inspect_records(block, accepted, final=final)
        if any(accepted):
            records = b"".join(accepted)
            seen = self._perfect(records, room)
            if seen and seen.size_bytes == len(records):
                self._learn(seen, number, start)
            else:
                self._merge([NOTHING_KNOWN] * len(self._facts))
        return end

    def _inspect_records(self, block: bytes, accepted: list[bytes], *, final: bool) -> int:
        start = self._skip_endless_line(block)
        while start < len(block):
            if (end := self._shape.plain_run(block, start)) > start:
                accepted.append(self._accept_run(block[start:end]))
                start = end
                continue
            found = self._shape.parse(block, start, final=final)
            if isinstance(found, Incomplete):
                break
            if isinstance(found, Fault):
                self._quarantine(block, start, found)
            elif found.fields:
                accepted.append(self._accept(found, block[start : found.end]))
            else:
                self._drop(found.end - start)
            self._lines += block.count(b"\n", start, found.end) or 1
            start = found.end
        return start

    def _skip_endless_line(self, block: bytes) -> int:
        if not self._in_endless_line:
            return 0
        end = block.find(b"\n") + 1
        self._in_endless_line = end == 0
        return end or len(block)

    def _accept_run(self, raw: bytes) -> bytes:
        """Accept unquoted records and return those that hold data."""
        if self._output:
            self._output.write(raw)
        self._intact_bytes += len(raw)
        self._jump(self._records, self._lines)
        header_end = raw.find(b"\n") + 1 if self._has_header and self._records == 0 else 0
        ends = np.flatnonzero(np.frombuffer(raw, np.uint8) == NEWLINE)
        self._marks.add(ends)
        self._records += len(ends)
        self._lines += len(ends)
        return raw[header_end:]

    def _accept(self, record: Record, raw: bytes) -> bytes:
        """Accept one record and return it as DuckDB will see it, unless it is the header."""
        if record.normalized is not None:
            self._begin_copy()
            raw = record.normalized
        ended = raw if raw.endswith(b"\n") else raw + b"\n"
        if self._output:
            self._output.write(ended)
        self._intact_bytes += len(raw)
        self._jump(self._records, self._lines)
        is_header = self._has_header and self._records == 0
        self._marks.add(np.array([len(ended) - 1]))
        self._records += 1
        return b"" if is_header else ended

    def _drop(self, size_bytes: int) -> None:
        self._begin_copy()
        self._intact_bytes += size_bytes

    def _quarantine(self, block: bytes, start: int, fault: Fault) -> None:
        if self._has_header and self._records == 0:
            raise RejectedError(f"the header line can't be read: {fault.reason}")
        self._begin_copy()
        raw = block[start : min(fault.end, start + MAX_RAW_BYTES)]
        self._faults.add(self._lines + 1, fault.column, fault.reason, raw)
        self._in_endless_line = fault.endless

    def _jump(self, record: int, line: int) -> None:
        if line - record != self._offset:
            self._offset = line - record
            self._jumps.write(LINE_JUMP.pack(record, line + 1))

    def _begin_copy(self) -> None:
        if self._output or not self._source:
            return
        self._output = self._copy.open("wb")
        with self._source.open("rb") as source:
            _copy_bytes(source, self._output, self._intact_bytes)


def _copy_bytes(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count > 0 and (chunk := source.read(min(count, 4 * 1024 * 1024))):
        target.write(chunk)
        count -= len(chunk)


def unified_newlines(chunks: Iterable[bytes], before_change: Callable[[], None]) -> Iterator[bytes]:
    r"""Turn `\r\n` into `\n`, wherever a chunk may end, and lone `\r` if there is nothing else."""
    held = b""
    only_cr: bool | None = None
    for chunk in chunks:
        text = held + chunk
        held = b""
        if b"\r" in text:
            before_change()
            if only_cr is None:
                only_cr = b"\n" not in text
            if text.endswith(b"\r"):
                text, held = text[:-1], b"\r"
            text = text.replace(b"\r\n", b"\n")
            text = text.replace(b"\r", b"\n") if only_cr else text
        yield text
    if held:
        yield b"\n"


def whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut the text into blocks at line ends: the first line, then some lines of each chunk."""
    held = b""
    is_first = True
    for chunk in chunks:
        text = held + chunk
        if is_first and (end := text.find(b"\n") + 1):
            is_first = False
            yield text[:end]
            text = text[end:]
        end = text.rfind(b"\n") + 1 or len(text)
        held = text[end:]
        if end:
            yield text[:end]
    if held:
        yield held
