"""What the bytes of a column's fields prove: enough to let DuckDB read it as a type at once.

DuckDB's casts are too kind (see column_types.py), but not where no field leaves them a choice: a
column of nothing but `[1-9][0-9]*` can be read as BIGINT without a look back at its text. Of each
byte is found out how many digits end with it; the rest are comparisons at the ends of the fields.
"""

import sys
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

PAD_BYTES: Final = 8
"""Before a block, so that a look back from the end of its first field stays in the array."""
PAD: Final = ord("\n")
"""What is there: no digit, so that the first field's digits are its own."""

_MOST_DIGITS: Final = 18
_ISO_LENGTH: Final = len("2025-01-31")
_CENTS_LENGTH: Final = len("0.99")
_ZERO: Final = ord("0")
_POINT: Final = ord(".")
_HYPHEN: Final = ord("-")
_QUOTE: Final = ord('"')
_SPACE: Final = ord(" ")

_Places = NDArray[np.int64]
_Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What holds of every field of a column; without any field, everything does."""

    shortest: int = sys.maxsize
    longest: int = 0
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
            min(self.shortest, other.shortest),
            max(self.longest, other.longest),
            self.whole and other.whole,
            self.iso_date and other.iso_date,
            self.cents and other.cents,
            self.visible and other.visible,
        )


NOTHING_KNOWN: Final = ColumnFacts(0, sys.maxsize, False, False, False, False)  # noqa: FBT003


def column_facts(
    padded: _Bytes, separators: _Places, known: list[ColumnFacts]
) -> list[ColumnFacts]:
    """Return the facts of each column of a block; what is `known` to be false is not looked at.

    `separators` are the ends of the fields, record by record, in the block after its PAD_BYTES.
    """
    ends = np.add(separators.reshape(-1, len(known)).T, PAD_BYTES, order="C")
    starts = np.empty_like(ends)
    starts[0, 0] = PAD_BYTES
    starts[0, 1:] = ends[-1, :-1] + 1
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts
    sizes = list(zip(lengths.min(axis=1).tolist(), lengths.max(axis=1).tolist(), strict=True))
    runs = _digit_runs(padded, _longest_number(sizes, known))
    first = padded.take(starts)
    return [
        _facts(_Fields(padded, runs, first[index], ends[index], lengths[index], *size), column)
        for index, (size, column) in enumerate(zip(sizes, known, strict=True))
    ]


def _longest_number(sizes: list[tuple[int, int]], known: list[ColumnFacts]) -> int:
    return max(
        (
            longest
            for (_, longest), column in zip(sizes, known, strict=True)
            if longest <= _MOST_DIGITS and (column.whole or column.iso_date or column.cents)
        ),
        default=0,
    )


def _digit_runs(padded: _Bytes, most: int) -> _Bytes:
    """Return how many digits end with each byte; of more than `most`, at least so many."""
    runs = (padded - _ZERO < 10).view(np.uint8)  # noqa: PLR2004 - unsigned: what is below 0 is large
    reach = 1
    while reach < most:  # where all digits within reach are digits, those before them count too
        runs[reach:] += (runs[reach:] == reach) * runs[:-reach]
        reach *= 2
    return runs


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of one column in a block."""

    padded: _Bytes
    runs: _Bytes
    first: _Bytes
    """The first byte of each; of an empty one, the separator after it."""
    ends: _Places
    lengths: _Places
    shortest: int
    longest: int

    def have_digits(self, count: int | _Places, back: int) -> bool:
        """Say whether just `count` digits end `back` bytes before the end of each."""
        return bool((self.runs.take(self.ends - back - 1) == count).all())

    def have(self, byte: int, back: int) -> bool:
        """Say whether that byte is `back` bytes before the end of each."""
        return bool((self.padded.take(self.ends - back - 1) == byte).all())


def _facts(fields: _Fields, known: ColumnFacts) -> ColumnFacts:
    return ColumnFacts(
        fields.shortest,
        fields.longest,
        whole=known.whole and _whole(fields),
        iso_date=known.iso_date and _iso_date(fields),
        cents=known.cents and _cents(fields),
        visible=known.visible and _visible(fields),
    )


def _whole(fields: _Fields) -> bool:
    return (
        fields.longest <= _MOST_DIGITS
        and fields.have_digits(fields.lengths, 0)
        and not ((fields.first == _ZERO) & (fields.lengths > 1)).any()
    )


def _iso_date(fields: _Fields) -> bool:
    if fields.longest == 0:
        return True
    if fields.shortest == 0:
        fields = _filled(fields)
    return (
        fields.shortest == fields.longest == _ISO_LENGTH
        and fields.have(_HYPHEN, 2)
        and fields.have(_HYPHEN, 5)
        and all(fields.have_digits(count, back) for count, back in ((2, 0), (2, 3), (4, 6)))
        and not (fields.first == _ZERO).any()
    )


def _filled(fields: _Fields) -> _Fields:
    filled = fields.lengths > 0
    return replace(
        fields,
        first=fields.first[filled],
        ends=fields.ends[filled],
        lengths=fields.lengths[filled],
        shortest=int(fields.lengths[filled].min()),
    )


def _cents(fields: _Fields) -> bool:
    return (
        fields.shortest >= _CENTS_LENGTH
        and fields.longest <= _MOST_DIGITS
        and fields.have(_POINT, 2)
        and fields.have_digits(2, 0)
        and fields.have_digits(fields.lengths - 3, 3)
    )


def _visible(fields: _Fields) -> bool:
    return fields.shortest > 0 and not (((fields.first <= _SPACE) | (fields.first == _QUOTE)).any())
