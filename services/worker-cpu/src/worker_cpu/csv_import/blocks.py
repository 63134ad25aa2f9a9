"""Finds with NumPy whether a block of CSV is without fault, as most blocks are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker_cpu.csv_import.column_facts import PAD, PAD_BYTES, ColumnFacts, block_facts
from worker_cpu.csv_import.records import MAX_RECORD_BYTES, NEWLINE, QUOTE, RecordShape, is_utf8

_Places = NDArray[np.int64]
_Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class WellFormedBlock:
    """The well-formed records that a block begins with, up to the last newline outside quotes."""

    size_bytes: int
    ends: _Places
    """The place of the newline that ends each record."""
    lines: int
    jumps: list[tuple[int, int]]
    """(record, line), from 0: the first one, and those after a record of several lines."""
    facts: list[ColumnFacts]
    """Of each column, in all records but the outliers."""
    outliers: list[int]
    """The numbers, from 0, of the records with a field unlike the others of its column."""


def well_formed_block(
    block: bytes, shape: RecordShape, known: list[ColumnFacts], most_outliers: int = 0
) -> WellFormedBlock | None:
    """Return the well-formed records, or None if there may be a fault: then parse each record.

    Facts that are `known` to be false of a column are not checked again. Those that are false of
    few records are kept if these are at most `most_outliers` in all columns together.
    """
    if b"\r" in block or b"\0" in block:
        return None
    padded = np.empty(PAD_BYTES + len(block), np.uint8)
    padded[:PAD_BYTES] = PAD
    padded[PAD_BYTES:] = np.frombuffer(block, np.uint8)
    data = padded[PAD_BYTES:]
    quotes = np.flatnonzero(data == QUOTE) if b'"' in block else np.empty(0, np.int64)
    separators = _separators(data, quotes, shape)
    if separators is None or not (
        _quotes_are_strict(data, quotes[quotes <= separators[-1]], shape.delimiter[0])
        and is_utf8(block[: separators[-1] + 1])
    ):
        return None
    ends = separators[len(shape.columns) - 1 :: len(shape.columns)]
    newlines = np.flatnonzero(data[: ends[-1] + 1] == NEWLINE) if len(quotes) else ends
    found = block_facts(padded, separators, known, most_outliers)
    return WellFormedBlock(
        size_bytes=int(ends[-1]) + 1,
        ends=ends,
        lines=len(newlines),
        jumps=_jumps(newlines, ends),
        facts=found.columns,
        outliers=found.outliers,
    )


def _separators(data: _Bytes, quotes: _Places, shape: RecordShape) -> _Places | None:
    """Return the end of each field of the complete records; None if one is not well-formed."""
    found = data == shape.delimiter[0]
    found |= data == NEWLINE
    separators = _outside(np.flatnonzero(found), quotes)
    ends_record = data.take(separators) == NEWLINE
    records = np.count_nonzero(ends_record)
    width = len(shape.columns)
    complete = len(separators) - int(np.argmax(ends_record[::-1])) if records else 0
    if (
        not records
        or complete != records * width
        or not ends_record[width - 1 : complete : width].all()
    ):
        return None
    lengths = np.diff(separators[width - 1 : complete : width], prepend=-1)
    if lengths.min() == 1 or lengths.max() > MAX_RECORD_BYTES:
        return None  # a blank line, or a record that is too long
    return separators[:complete]


def _outside(places: _Places, quotes: _Places) -> _Places:
    """Keep the places with an even number of quotes before them."""
    if not len(quotes):
        return places
    outside: _Places = places[np.searchsorted(quotes, places) % 2 == 0]
    return outside


def _quotes_are_strict(data: _Bytes, quotes: _Places, delimiter: int) -> bool:
    """Return whether each quote opens or closes a field, or is one of a doubled pair."""
    if not len(quotes):
        return True
    borders: tuple[int, ...] = (delimiter, NEWLINE, QUOTE)
    opening, closing = quotes[0::2], quotes[1::2]
    before: NDArray[Any] = data[opening[opening > 0] - 1]
    return bool(np.isin(before, borders).all() and np.isin(data[closing + 1], borders).all())


def _jumps(newlines: _Places, ends: _Places) -> list[tuple[int, int]]:
    if len(newlines) == len(ends):
        return [(0, 0)]
    line_ends = np.searchsorted(newlines, ends)
    first_lines = np.concatenate(([0], line_ends[:-1] + 1))
    gaps = first_lines - np.arange(len(ends))
    changed = np.flatnonzero(np.diff(gaps)) + 1
    return [(0, 0), *((int(i), int(first_lines[i])) for i in changed)]
