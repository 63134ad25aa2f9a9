"""What the bytes of a column's fields prove: enough to let DuckDB read it as a type at once.

DuckDB's casts are too kind (see column_types.py), but not where no field leaves them a choice: a
column of nothing but `[1-9][0-9]*` can be read as BIGINT without a look back at its text. Eight
bytes of each field are checked at a time, as one number, in a few passes of NumPy over a block.
"""

import sys
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PAD_BYTES: Final = 24
"""Before a block, so that the words of its first fields begin within the array."""

_MOST_DIGITS: Final = 18
_WORD: Final = 8
_ISO_LENGTH: Final = len("2025-01-31")
_CENTS_LENGTH: Final = len("0.99")
_ZERO: Final = ord("0")
_QUOTE: Final = ord('"')
_SPACE: Final = ord(" ")
_HIGH_BITS: Final = np.uint64(0x8080_8080_8080_8080)

_Places = NDArray[np.int64]
_Bytes = NDArray[np.uint8]
_Words = NDArray[np.uint64]


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


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of one column: `first` byte, bytes before `ends`, and how many are theirs."""

    first: _Bytes
    words: _Words
    ends: _Places
    lengths: _Places


class _Pattern:
    """Eight bytes: each a digit (`0` in the picture), or exactly what the picture shows."""

    def __init__(self, picture: bytes) -> None:
        shown = int.from_bytes(picture, "little")
        # A byte that is too large by its picture reaches the highest bit when this is added.
        reach = bytes(0x80 - (10 if byte == _ZERO else 1) for byte in picture)
        self._picture = np.uint64(shown)
        self._reach = np.uint64(int.from_bytes(reach, "little"))
        theirs = [2**64 - 2 ** (64 - 8 * count) for count in range(_WORD + 1)]
        self._theirs = np.array(theirs, np.uint64)
        self._filling = np.array([shown & ~mask for mask in theirs], np.uint64)

    def fits(self, words: _Words, lengths: _Places) -> bool:
        """Say whether the last `lengths` bytes of each word are as in the picture."""
        if lengths.min() < _WORD:
            counts = lengths.clip(0, _WORD)
            words = words & self._theirs[counts] | self._filling[counts]
        different = words ^ self._picture
        return not np.bitwise_or.reduce((different + self._reach) | different) & _HIGH_BITS


_DIGITS: Final = _Pattern(b"00000000")
_CENTS: Final = _Pattern(b"00000.00")
_DATE_BEGIN: Final = _Pattern(b"0000-00-")
_DATE_END: Final = _Pattern(b"00-00-00")


def column_facts(
    padded: _Bytes, separators: _Places, known: list[ColumnFacts]
) -> list[ColumnFacts]:
    """Return the facts of each column of a block; what is `known` to be false is not looked at.

    `separators` are the ends of the fields, record by record, in the block after its PAD_BYTES.
    """
    words = np.ndarray((len(padded) - _WORD + 1,), "<u8", padded.data, strides=(1,))
    grid = separators.reshape(-1, len(known)) + PAD_BYTES
    before = np.concatenate(([PAD_BYTES - 1], grid[:-1, -1]))
    facts = []
    for index, column in enumerate(known):
        ends = np.ascontiguousarray(grid[:, index])
        lengths = ends - before - 1
        facts.append(_facts(_Fields(padded[before + 1], words, ends, lengths), column))
        before = ends
    return facts


def _facts(fields: _Fields, known: ColumnFacts) -> ColumnFacts:
    shortest, longest = int(fields.lengths.min()), int(fields.lengths.max())
    return ColumnFacts(
        shortest,
        longest,
        whole=known.whole and longest <= _MOST_DIGITS and _whole(fields),
        iso_date=known.iso_date and longest <= _ISO_LENGTH and _iso_date(fields),
        cents=known.cents
        and shortest >= _CENTS_LENGTH
        and longest <= _MOST_DIGITS
        and _fits(fields, _CENTS),
        visible=known.visible and shortest > 0 and _visible(fields),
    )


def _whole(fields: _Fields) -> bool:
    leading_zero = (fields.first == _ZERO) & (fields.lengths > 1)
    return not leading_zero.any() and _fits(fields, _DIGITS)


def _fits(fields: _Fields, last: _Pattern) -> bool:
    """Say whether each field ends as `last` shows, with digits before."""
    pattern = last
    for done in range(0, int(fields.lengths.max()), _WORD):
        words = fields.words[fields.ends - done - _WORD]
        if not pattern.fits(words, fields.lengths - done):
            return False
        pattern = _DIGITS
    return True


def _iso_date(fields: _Fields) -> bool:
    filled = fields.lengths > 0
    if not ((fields.lengths == _ISO_LENGTH) | ~filled).all():
        return False
    ends, first = fields.ends[filled], fields.first[filled]
    if not len(ends):
        return True
    whole_words = np.full(1, _WORD)
    return (
        not (first == _ZERO).any()
        and _DATE_BEGIN.fits(fields.words[ends - _ISO_LENGTH], whole_words)
        and _DATE_END.fits(fields.words[ends - _WORD], whole_words)
    )


def _visible(fields: _Fields) -> bool:
    return not ((fields.first <= _SPACE) | (fields.first == _QUOTE)).any()
