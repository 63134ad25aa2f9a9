"""Records with a field unlike those of its column: a word among numbers, a price without cents.

DuckDB could not read their columns as numbers, nor as dates. So they are noted while the file is
screened, and judged on their own (judging.py), if they are few.
"""

from typing import Final, NamedTuple

from worker_cpu.csv_import.blocks import PerfectBlock

_MOST_SHARE: Final = 0.01
"""Of more records than these, a column is not what it seemed to be."""
_MOST_BYTES: Final = 16 * 1024 * 1024
"""About the memory that outliers may take; beyond it, no more are noted."""
_BYTES_EACH: Final = 200
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
        if self._size_bytes > _MOST_BYTES:
            return 0
        return max(0, int(_MOST_SHARE * records) - len(self.found))

    def add(self, block: PerfectBlock, number: int, start: int) -> None:
        """Note the outliers of a block; `number` and `start` are those of its first record."""
        for index in block.outliers:
            begin = int(block.ends[index - 1]) + 1 if index else 0
            end = int(block.ends[index]) + 1
            self.found.append(Outlier(number + index, start + begin, start + end))
            self._size_bytes += end - begin + _BYTES_EACH
