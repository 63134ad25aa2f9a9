"""A file as it would be with some places of it replaced, without another copy of it."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple


class Patch(NamedTuple):
    """What stands instead of the bytes from `start` to before `end`."""

    start: int
    end: int
    text: bytes


class Patches:
    """Patches of one file, none of which begins before another one ends."""

    def __init__(self, patches: Sequence[Patch] = ()) -> None:
        """Take patches in the order of the file."""
        self._patches = patches
        self._starts = [patch.start for patch in patches]

    def size_bytes(self, first: int, size: int) -> int:
        """Return how long the part of the file becomes that is `size` from its byte `first` on."""
        return size + sum(
            len(patch.text) - (min(patch.end, first + size) - patch.start)
            for patch in self._within(first, size)
        )

    def applied(self, content: bytes, first: int) -> bytes:
        """Return what becomes of `content`, the part of the file from its byte `first` on."""
        pieces = []
        done = 0
        for patch in self._within(first, len(content)):
            pieces += [content[done : patch.start - first], patch.text]
            done = patch.end - first
        return b"".join([*pieces, content[done:]]) if pieces else content

    def _within(self, first: int, size: int) -> Sequence[Patch]:
        begin = bisect_left(self._starts, first)
        return self._patches[begin : bisect_left(self._starts, first + size, lo=begin)]
