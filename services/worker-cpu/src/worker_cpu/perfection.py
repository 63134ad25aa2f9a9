"""Tells at the speed of memory whether a block of CSV is without fault, which most blocks are."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker_cpu.records import MAX_RECORD_BYTES, RecordShape

_NEWLINE: Final = ord("\n")
_QUOTE: Final = ord('"')

_Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PerfectBlock:
    """The well-formed records that a block begins with, up to the last newline outside quotes."""

    size_bytes: int
    records: int
    lines: int
    jumps: list[tuple[int, int]]
    """(record, line), from 0: the first one, and those after a record of several lines."""


def perfect_block(block: bytes, shape: RecordShape) -> PerfectBlock | None:
    """Return what is perfect, or None if there is any doubt: then look at each record."""
    if b"\r" in block or b"\0" in block:
        return None
    data = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(data == _NEWLINE)
    quotes = np.flatnonzero(data == _QUOTE) if b'"' in block else np.empty(0, np.int64)
    ends = _outside(newlines, quotes)
    if not len(ends):
        return None
    size = int(ends[-1]) + 1
    quotes = quotes[: np.searchsorted(quotes, size)]
    delimiters = _outside(np.flatnonzero(data[:size] == shape.delimiter[0]), quotes)
    if not (
        _quotes_are_strict(data, quotes, shape.delimiter[0])
        and _shapes_agree(ends, delimiters, len(shape.columns) - 1)
        and _is_utf8(block[:size])
    ):
        return None
    lines = int(np.searchsorted(newlines, size))
    return PerfectBlock(size, len(ends), lines, _jumps(newlines[:lines], ends))


def _outside(places: _Places, quotes: _Places) -> _Places:
    """Keep the places with an even number of quotes before them."""
    if not len(quotes):
        return places
    outside: _Places = places[np.searchsorted(quotes, places) % 2 == 0]
    return outside


def _quotes_are_strict(data: NDArray[np.uint8], quotes: _Places, delimiter: int) -> bool:
    """Say whether each quote opens or closes a field, or is one of a doubled pair."""
    borders: tuple[int, ...] = (delimiter, _NEWLINE, _QUOTE)
    opening, closing = quotes[0::2], quotes[1::2]
    before: NDArray[Any] = data[opening[opening > 0] - 1]
    return bool(np.isin(before, borders).all() and np.isin(data[closing + 1], borders).all())


def _shapes_agree(ends: _Places, delimiters: _Places, per_record: int) -> bool:
    """Say whether each record has its delimiters, and is neither blank nor too long."""
    lengths = np.diff(ends, prepend=-1)
    if len(delimiters) != per_record * len(ends):
        return False
    if lengths.min() == 1 or lengths.max() > MAX_RECORD_BYTES:
        return False
    if not per_record:
        return True
    grid = delimiters.reshape(-1, per_record)
    return bool((grid[:, -1] < ends).all() and (grid[1:, 0] > ends[:-1]).all())


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _jumps(newlines: _Places, ends: _Places) -> list[tuple[int, int]]:
    if len(newlines) == len(ends):
        return [(0, 0)]
    line_ends = np.searchsorted(newlines, ends)
    first_lines = np.concatenate(([0], line_ends[:-1] + 1))
    gaps = first_lines - np.arange(len(ends))
    changed = np.flatnonzero(np.diff(gaps)) + 1
    return [(0, 0), *((int(i), int(first_lines[i])) for i in changed)]
