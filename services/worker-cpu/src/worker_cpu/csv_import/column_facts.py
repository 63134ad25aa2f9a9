"""What the bytes of a column's fields prove: whether DuckDB may read it as its type directly.

DuckDB's casts accept too much (see column_types.py), but can't go wrong where every field has a
strict form: a column of nothing but `[1-9][0-9]*` is read as BIGINT without a comparison with its
text. For each byte the digits that end with it are counted; all other checks are comparisons of
single bytes at the ends of the fields.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker_cpu.csv_import.records import NEWLINE, QUOTE

PAD_BYTES: Final = 8
"""Before a block, so that what is compared before the end of its first field is in the array."""
PAD: Final = NEWLINE
"""No digit, so that none is counted with those of the first field."""

_SHORT: Final = 9
_MOST_DIGITS: Final = 18
_ISO_LENGTH: Final = len("2025-01-31")
_CENTS_LENGTH: Final = len("0.99")
_ZERO: Final = ord("0")
_POINT: Final = ord(".")
_HYPHEN: Final = ord("-")
_SPACE: Final = ord(" ")

_Places = NDArray[np.int64]
_Bytes = NDArray[np.uint8]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What holds of every field of a column; if there are none, everything does."""

    filled: bool = True
    """Not empty."""
    short: bool = True
    """At most 9 bytes."""
    whole: bool = True
    """Empty, `0` or digits that do not begin with 0; at most 18 of them."""
    iso_date: bool = True
    """Empty, or `YYYY-MM-DD` by its digits and hyphens, from the year 1000 on."""
    cents: bool = True
    """One digit or more, a point, two digits; at most 18 bytes."""
    visible: bool = True
    """Begins with neither a space, a control character nor a quote, and is not empty."""

    def __and__(self, other: "ColumnFacts") -> "ColumnFacts":
        """Return what holds of the fields of both."""
        return ColumnFacts(
            self.filled and other.filled,
            self.short and other.short,
            self.whole and other.whole,
            self.iso_date and other.iso_date,
            self.cents and other.cents,
            self.visible and other.visible,
        )


def common_facts(some: list[ColumnFacts], others: list[ColumnFacts]) -> list[ColumnFacts]:
    """Return what holds of each column in both parts of a file."""
    return [one & other for one, other in zip(some, others, strict=True)]


NOTHING_KNOWN: Final = ColumnFacts(*[False] * len(fields(ColumnFacts)))


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """What was found in a block."""

    columns: list[ColumnFacts]
    """Of each column, in all records but the outliers."""
    outliers: list[int]
    """The numbers, from 0, of the records with a field unlike the others of its column."""


def block_facts(
    padded: _Bytes, separators: _Places, known: list[ColumnFacts], most_outliers: int
) -> BlockFacts:
    """Return the facts of each column of a block; what is `known` to be false is not checked.

    `separators` are the ends of the fields, record by record, in the block after its PAD_BYTES. A
    fact that is false of at most so many records makes outliers of them, and stays.
    """
    ends = np.add(separators.reshape(-1, len(known)).T, PAD_BYTES, order="C")
    starts = np.empty_like(ends)
    starts[0, 0] = PAD_BYTES
    starts[0, 1:] = ends[-1, :-1] + 1
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts
    first = padded.take(starts)
    runs = _digit_runs(padded, _longest_run(lengths.max(axis=1), known))
    outlying = np.zeros(len(ends[0]), np.bool_)
    columns = [
        _facts(
            _Fields(padded, runs, first[index], ends[index], lengths[index]),
            column,
            most_outliers,
            outlying,
        )
        for index, column in enumerate(known)
    ]
    return BlockFacts(columns, np.flatnonzero(outlying).tolist())


def _longest_run(lengths: _Places, known: list[ColumnFacts]) -> int:
    """Return up to how many digits must be counted, given the longest field of each column."""
    runs = [len("99")]  # cents
    for longest, column in zip(lengths.tolist(), known, strict=True):
        if column.whole:
            runs.append(min(longest, _MOST_DIGITS))
        if column.cents:
            runs.append(min(longest, _MOST_DIGITS) - len(".00"))
        if column.iso_date:
            runs.append(len("2025"))
    return max(runs)


def _digit_runs(padded: _Bytes, most: int) -> _Bytes:
    """Return how many digits end with each byte; of more than `most`, at least so many."""
    runs = padded - _ZERO
    np.less(runs, 10, out=runs.view(np.bool_))  # unsigned: what is below 0 is large
    room = np.empty_like(runs)
    reach = 1
    while reach < most:  # `reach` digits end here: add those that end just before them
        longer = room[reach:]
        np.equal(runs[reach:], reach, out=longer.view(np.bool_))
        longer *= runs[:-reach]
        runs[reach:] += longer
        reach *= 2
    return runs


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of one column in a block; each check returns a bool per field."""

    padded: _Bytes
    runs: _Bytes
    first: _Bytes
    """The first byte of each; of an empty one, the separator after it."""
    ends: _Places
    lengths: _Places

    def digits(self, count: int | _Places, back: int) -> _Mask:
        """Return whether exactly `count` digits end `back` bytes before the end."""
        mask: _Mask = self.runs.take(self.ends - back - 1) == count
        return mask

    def byte(self, byte: int, back: int) -> _Mask:
        """Return whether `byte` stands `back` bytes before the end."""
        mask: _Mask = self.padded.take(self.ends - back - 1) == byte
        return mask

    def filled(self) -> _Mask:
        return self.lengths > 0

    def short(self) -> _Mask:
        return self.lengths <= _SHORT

    def whole(self) -> _Mask:
        leading_zero = (self.first == _ZERO) & (self.lengths > 1)
        digits = self.digits(self.lengths, 0)
        mask: _Mask = digits & (self.lengths <= _MOST_DIGITS) & ~leading_zero
        return mask

    def iso_date(self) -> _Mask:
        hyphens = self.byte(_HYPHEN, 2) & self.byte(_HYPHEN, 5)
        digits = self.digits(2, 0) & self.digits(2, 3) & self.digits(4, 6)
        full = (self.lengths == _ISO_LENGTH) & hyphens & digits & (self.first != _ZERO)
        mask: _Mask = full | (self.lengths == 0)
        return mask

    def cents(self) -> _Mask:
        sized = (self.lengths >= _CENTS_LENGTH) & (self.lengths <= _MOST_DIGITS)
        digits = self.digits(2, 0) & self.digits(self.lengths - 3, 3)
        return sized & self.byte(_POINT, 2) & digits

    def visible(self) -> _Mask:
        mask: _Mask = (self.first > _SPACE) & (self.first != QUOTE) & (self.lengths > 0)
        return mask


_CHECKS: Final[dict[str, Callable[[_Fields], _Mask]]] = {
    "filled": _Fields.filled,
    "short": _Fields.short,
    "whole": _Fields.whole,
    "iso_date": _Fields.iso_date,
    "cents": _Fields.cents,
    "visible": _Fields.visible,
}


def _facts(column: _Fields, known: ColumnFacts, most_outliers: int, outlying: _Mask) -> ColumnFacts:
    """Return the facts of a column; where one has outliers, they are marked as `outlying`."""
    return ColumnFacts(
        **{
            name: getattr(known, name) and _holds(check(column), most_outliers, outlying)
            for name, check in _CHECKS.items()
        }
    )


def _holds(mask: _Mask, most_outliers: int, outlying: _Mask) -> bool:
    if mask.all():
        return True
    outliers = outlying | ~mask
    if np.count_nonzero(outliers) > most_outliers:
        return False
    outlying[:] = outliers
    return True
