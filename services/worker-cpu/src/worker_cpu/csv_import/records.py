"""One record of a CSV: where it ends, and whether it has the columns of its file.

RFC 4180, with what exports get wrong in practice: spaces around a quoted value are dropped, and a
quote within an unquoted value is an ordinary character. An unclosed quote makes a fault of its own
line only.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

NEWLINE: Final = ord("\n")
QUOTE: Final = ord('"')

MAX_RECORD_BYTES: Final = 1024 * 1024
"""Longer ones are quarantined; the end of a quoted value is not searched for beyond it."""

_RUN_RECORDS: Final = 1_000

_OPENING: Final = re.compile(rb" *\"")
_SPACES: Final = re.compile(rb" *")


@dataclass(frozen=True, slots=True)
class Record:
    """A well-formed record, or a blank line if it has no fields; `end` is that in the block."""

    end: int
    fields: int
    normalized: bytes | None = None
    """What DuckDB is to read, if that differs from what the file says."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the bytes up to `end` are no record; `unfinished` if the line goes on after the block."""

    end: int
    reason: str
    column: str | None = None
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class Incomplete:
    """The block ends within the record."""


_INCOMPLETE: Final = Incomplete()


class RecordShape:
    """What every record of a file must look like."""

    def __init__(self, delimiter: str, columns: tuple[str, ...]) -> None:
        self.delimiter = delimiter.encode()
        self.columns = columns
        self._field_end = re.compile(b"[\n" + re.escape(self.delimiter) + b"]")
        # Possessive, so that a run ends at the first fault without backtracking.
        field = b'[^\r\n\0"' + re.escape(self.delimiter) + b"]"
        others = b"(?:" + re.escape(self.delimiter) + field + b"*+){%d}" % (len(columns) - 1)
        first = field + (b"*+" if len(columns) > 1 else b"++")  # a blank line is no record
        # Bounded, because the matcher remembers every repetition; and not possessive itself:
        # Python before 3.11.5 matches what it should not (python/cpython#106052).
        self._plain_records = re.compile(b"(?:" + first + others + b"\n){1,%d}" % _RUN_RECORDS)
        self._needs_quotes = re.compile(b'[\r\n"' + re.escape(self.delimiter) + b"]")

    def plain_run(self, block: bytes, start: int) -> int:
        """Return where the run of unquoted, well-formed records at `start` ends."""
        end = start
        while match := self._plain_records.match(block, end):
            end = match.end()
        if end - start > MAX_RECORD_BYTES:
            return start  # one of them may be too long
        try:
            block[start:end].decode()
        except UnicodeDecodeError as exc:
            return block.rfind(b"\n", start, start + exc.start) + 1 or start
        return end

    def parse(self, block: bytes, start: int, *, final: bool) -> Record | Fault | Incomplete:
        """Read the record at `start`; `final` if nothing follows the block."""
        newline = block.find(b"\n", start)
        if newline < 0 and not final:
            return self._unfinished(block, start)
        line_end = newline + 1 or len(block)
        line = block[start : newline if newline >= 0 else len(block)]
        if not line:
            return Record(line_end, 0)
        if len(line) > MAX_RECORD_BYTES:
            return Fault(line_end, f"longer than {MAX_RECORD_BYTES:,} bytes")
        if b'"' in line:
            return self._checked(self._quoted(block, start, line_end, final=final), block, start)
        return self._checked(self._plain(line, line_end), block, start)

    def line(self, values: Sequence[str]) -> bytes:
        """Return the record of these values as strict CSV."""
        return self._normalized([value.encode() for value in values])

    def _unfinished(self, block: bytes, start: int) -> Fault | Incomplete:
        if len(block) - start <= MAX_RECORD_BYTES:
            return _INCOMPLETE
        return Fault(len(block), f"longer than {MAX_RECORD_BYTES:,} bytes", unfinished=True)

    def _plain(self, line: bytes, end: int) -> Record:
        fields = line.count(self.delimiter) + 1
        if b"\r" not in line:
            return Record(end, fields)
        return Record(end, fields, self._normalized(line.split(self.delimiter)))

    def _quoted(
        self, block: bytes, start: int, line_end: int, *, final: bool
    ) -> Record | Fault | Incomplete:
        fields: list[bytes] = []
        irregular = False
        position = start
        while True:
            opening = _OPENING.match(block, position)
            if opening:
                closing = _closing_quote(block, opening.end())
                if closing < 0 and not final and len(block) - start <= MAX_RECORD_BYTES:
                    return _INCOMPLETE
                if closing < 0 or closing - start > MAX_RECORD_BYTES:
                    return self._fault(line_end, fields, "a quoted value is never closed")
                spaces = _SPACES.match(block, closing + 1)
                stop = spaces.end() if spaces else closing + 1
                irregular = irregular or opening.end() - position > 1 or stop > closing + 1
                value = block[opening.end() : closing].replace(b'""', b'"')
            else:
                match = self._field_end.search(block, position)
                stop = match.start() if match else len(block)
                value = block[position:stop]
                irregular = irregular or b'"' in value or b"\r" in value
            fields.append(value)
            after = block[stop : stop + 1]
            if not after and not final:
                return _INCOMPLETE
            if after in (b"\n", b""):
                break
            if after != self.delimiter:
                return self._fault(line_end, fields[:-1], "text after a quoted value")
            position = stop + 1
        normalized = self._normalized(fields) if irregular else None
        return Record(min(stop + 1, len(block)), len(fields), normalized)

    def _fault(self, end: int, fields: list[bytes], reason: str) -> Fault:
        index = len(fields)
        return Fault(end, reason, self.columns[index] if index < len(self.columns) else None)

    def _checked(
        self, found: Record | Fault | Incomplete, block: bytes, start: int
    ) -> Record | Fault | Incomplete:
        if not isinstance(found, Record):
            return found
        wanted = len(self.columns)
        if found.fields != wanted:
            missing = self.columns[found.fields] if found.fields < wanted else None
            return Fault(found.end, f"{found.fields} columns instead of {wanted}", missing)
        raw = block[start : found.end]
        if b"\0" in raw:
            return Fault(found.end, "contains a NUL character")
        if len(raw) > MAX_RECORD_BYTES:
            return Fault(found.end, f"longer than {MAX_RECORD_BYTES:,} bytes")
        return found if is_utf8(raw) else Fault(found.end, "not valid UTF-8")

    def _normalized(self, fields: list[bytes]) -> bytes:
        return self.delimiter.join(map(self._encoded, fields)) + b"\n"

    def _encoded(self, field: bytes) -> bytes:
        if not self._needs_quotes.search(field):
            return field
        return b'"' + field.replace(b'"', b'""') + b'"'


def _closing_quote(block: bytes, position: int) -> int:
    while (found := block.find(b'"', position)) >= 0:
        if block[found + 1 : found + 2] != b'"':
            return found
        position = found + 2
    return -1


def is_utf8(raw: bytes) -> bool:
    """Return whether these bytes are valid UTF-8."""
    if raw.isascii():
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
