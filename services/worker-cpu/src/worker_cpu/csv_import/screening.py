"""Sorts a CSV's records by their structure: what DuckDB may read, and what goes to quarantine.

Every other count is checked against that of this pass, which reads the bytes without DuckDB.
(DuckDB 2.0's own `store_rejects` was measured to keep 1.3 KB per bad line outside its memory limit,
to lose some of them, and to drop the rest of a file after one unclosed quote.)

A record is one line, or several when a quoted value spans them. Blank lines are none. A file
without fault is left in place; at the first fault, a screened copy is begun.

Outliers are well-formed records with a field unlike those of its column: a word among numbers, a
price without cents. With them DuckDB could not read the column as numbers. If they are few, they
are noted here and checked on their own (type_mismatches.py).
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from twinlane_sdk.errors import RejectedError
from worker_cpu.csv_import.blocks import WellFormedBlock, well_formed_block
from worker_cpu.csv_import.column_facts import NOTHING_KNOWN, ColumnFacts, common_facts
from worker_cpu.csv_import.quarantine import MAX_RAW_BYTES, QuarantineWriter
from worker_cpu.csv_import.records import NEWLINE, Fault, Incomplete, Record, RecordShape
from worker_cpu.csv_import.segments import RecordIndex, RecordMarks

LINE_JUMP: Final = struct.Struct("<qq")
"""(number of a record, its line): an entry wherever their difference changes."""

_MOST_OUTLIERS_SHARE: Final = 0.01
"""With a larger share of outliers, a column is not what it seemed to be."""
_MOST_OUTLIERS_BYTES: Final = 16 * 1024 * 1024
"""About the most memory for outliers; beyond it, no more are noted."""
_OUTLIER_BYTES: Final = 200
"""The memory of one, besides its text."""


class Outlier(NamedTuple):
    """A well-formed record of the screened file."""

    number: int
    """From 0, without the header."""
    start: int
    """Its first byte."""
    end: int
    """The byte after its newline."""


class Outliers:
    """Collects the outliers of a file, block by block."""

    def __init__(self) -> None:
        self.found: list[Outlier] = []
        self._size_bytes = 0

    def remaining(self, records: int) -> int:
        """Return how many more there may be among the first `records` of the file."""
        if self._size_bytes > _MOST_OUTLIERS_BYTES:
            return 0
        return max(0, int(_MOST_OUTLIERS_SHARE * records) - len(self.found))

    def add(self, block: WellFormedBlock, number: int, start: int) -> None:
        """Note the outliers of a block; `number` and `start` are those of its first record."""
        for index in block.outliers:
            begin = int(block.ends[index - 1]) + 1 if index else 0
            end = int(block.ends[index]) + 1
            self.found.append(Outlier(number + index, start + begin, start + end))
            self._size_bytes += end - begin + _OUTLIER_BYTES


@dataclass(frozen=True)
class ScreenedFile:
    """A file without malformed records; counts are without the header."""

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
        self._in_overlong_line = False

    def run(self, chunks: Iterable[bytes]) -> ScreenedFile:
        """Screen the whole file."""
        rest = b""
        for lines in whole_lines(unified_newlines(chunks, before_change=self._begin_copy)):
            block = rest + lines
            rest = block[self._take(block) :]
        if rest:
            self._inspect(rest, self._most_outliers(rest), final=True)
        self._jumps.close()
        if self._output:
            self._output.close()
        return ScreenedFile(
            path=self._copy if self._output else self._source or self._copy,
            line_jumps=Path(self._jumps.name),
            well_formed=self._records - (self._has_header and self._records > 0),
            malformed=self._faults.count,
            facts=self._facts,
            outliers=self._outliers.found,
            mark_starts=self._marks.starts,
        )

    def _take(self, block: bytes) -> int:
        """Take the complete records of a block and return their length in bytes."""
        most_outliers = self._most_outliers(block)
        found = None if self._in_overlong_line else self._well_formed(block, most_outliers)
        if found is None:
            return self._inspect(block, most_outliers, final=False)
        if self._output:
            self._output.write(block[: found.size_bytes])
        for record, line in found.jumps:
            self._jump(self._records + record, self._lines + line)
        header_only = self._has_header and self._records == 0 and len(found.ends) == 1
        if not header_only:
            self._add_facts(found, self._marks.records, self._marks.size_bytes)
        self._marks.add(found.ends)
        self._records += len(found.ends)
        self._lines += found.lines
        self._intact_bytes += found.size_bytes
        return found.size_bytes

    def _most_outliers(self, block: bytes) -> int:
        """Return how many outliers a block may have: none if it may hold the header."""
        if self._has_header and self._records == 0:
            return 0
        return self._outliers.remaining(self._records + block.count(b"\n"))

    def _well_formed(self, block: bytes, most_outliers: int) -> WellFormedBlock | None:
        return well_formed_block(block, self._shape, self._facts, most_outliers)

    def _add_facts(self, found: WellFormedBlock, number: int, start: int) -> None:
        self._facts = common_facts(self._facts, found.facts)
        self._outliers.add(found, number, start)

    def _inspect(self, block: bytes, most_outliers: int, *, final: bool) -> int:
        """Take the complete records of a block one by one and return their length in bytes."""
        number, start = self._marks.records, self._marks.size_bytes
        accepted: list[bytes] = []
        end = self._inspect_records(block, accepted, final=final)
        if any(accepted):
            records = b"".join(accepted)
            found = self._well_formed(records, most_outliers)
            if found and found.size_bytes == len(records):
                self._add_facts(found, number, start)
            else:
                self._facts = [NOTHING_KNOWN] * len(self._facts)
        return end

    def _inspect_records(self, block: bytes, accepted: list[bytes], *, final: bool) -> int:
        start = self._skip_overlong_line(block)
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

    def _skip_overlong_line(self, block: bytes) -> int:
        if not self._in_overlong_line:
            return 0
        end = block.find(b"\n") + 1
        self._in_overlong_line = end == 0
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
        """Accept one record and return it as DuckDB will read it, unless it is the header."""
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
        self._in_overlong_line = fault.unfinished

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
    rest = b""
    only_cr: bool | None = None
    for chunk in chunks:
        text = rest + chunk
        rest = b""
        if b"\r" in text:
            before_change()
            if only_cr is None:
                only_cr = b"\n" not in text
            if text.endswith(b"\r"):
                text, rest = text[:-1], b"\r"
            text = text.replace(b"\r\n", b"\n")
            text = text.replace(b"\r", b"\n") if only_cr else text
        yield text
    if rest:
        yield b"\n"


def whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut the text into blocks at line ends: the first line, then some lines of each chunk."""
    rest = b""
    is_first = True
    for chunk in chunks:
        text = rest + chunk
        if is_first and (end := text.find(b"\n") + 1):
            is_first = False
            yield text[:end]
            text = text[end:]
        end = text.rfind(b"\n") + 1 or len(text)
        rest = text[end:]
        if end:
            yield text[:end]
    if rest:
        yield rest
