"""What rounds gave: medians, their spread, and the ratios of two sides."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

RATIO: Final = "×"


@dataclass(frozen=True)
class Sample:
    """One value for each round, in one unit, in the order of the rounds."""

    values: tuple[float, ...]
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a sample needs the value of at least one round")

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def over(self, other: "Sample") -> "Sample":
        """Return the ratio to another side, round by round.

        Both sides of a round ran one after the other, so what disturbed the machine at that time
        disturbed both.
        """
        pairs = zip(self.values, other.values, strict=True)
        return Sample(tuple(mine / theirs for mine, theirs in pairs), RATIO)

    def __str__(self) -> str:
        """Return the median and, where there were several rounds, the lowest and the highest."""
        shown = figure(self.median)
        if len(self.values) > 1:
            shown += f" ({figure(self.low)}–{figure(self.high)})"
        return f"{shown} {self.unit}".rstrip()


def figure(value: float) -> str:
    """Show three significant digits, and the whole number above a thousand."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent of the values do not exceed.

    Nearest rank: always one of the values, and so never better than what somebody has seen.
    """
    if not values:
        raise ValueError("there is no percentile of nothing")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(int(rank), 1) - 1]
