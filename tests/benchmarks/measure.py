"""What a measure is, and what comes out of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.bench import Bench
from benchmarks.samples import Sample


@dataclass(frozen=True)
class Verdict:
    """One clause of a goal, what was measured, and whether that is enough."""

    number: int
    """Of the goal in the list of goals."""
    goal: str
    measured: Sample
    met: bool
    explanation: str = ""
    """Where the distance comes from; shown if the goal is not met."""


def at_least(
    limit: float, number: int, goal: str, measured: Sample, explanation: str = ""
) -> Verdict:
    """Judge the median, which must reach `limit`."""
    return Verdict(number, goal, measured, measured.median >= limit, explanation)


def at_most(
    limit: float, number: int, goal: str, measured: Sample, explanation: str = ""
) -> Verdict:
    """Judge the median, which must not exceed `limit`."""
    return Verdict(number, goal, measured, measured.median <= limit, explanation)


@dataclass(frozen=True)
class Row:
    """One side of a comparison: a cell for each of the table's columns but the first."""

    side: str
    cells: Sequence[Sample | str]
    ours: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose first column names the sides; say their durability in another."""

    columns: Sequence[str]
    rows: Sequence[Row]
    caption: str = ""


@dataclass(frozen=True)
class Bars:
    """A bar with its spread for each side."""

    name: str
    """Of the picture's file, without its ending."""
    title: str
    samples: Mapping[str, Sample]
    """By side, all of one unit; the first is ours and is drawn in its colour."""
    goal: float | None = None
    """Where to draw a line, in the samples' unit."""
    log: bool = False


@dataclass(frozen=True)
class Curves:
    """A line with its spread for each side."""

    name: str
    title: str
    x_label: str
    lines: Mapping[str, Sequence[tuple[float, Sample]]]
    """Points by side, their samples all of one unit; the first is ours."""
    log_x: bool = False
    log_y: bool = False


Plot = Bars | Curves


@dataclass(frozen=True)
class Outcome:
    """What the document says of a measure."""

    verdicts: Sequence[Verdict]
    tables: Sequence[Table]
    plots: Sequence[Plot] = ()
    notes: Sequence[str] = ()
    """Paragraphs: what was done, what the figures do not say."""


@dataclass(frozen=True)
class Measure:
    """Something to measure, for one goal of the list or for several that one run answers."""

    numbers: Sequence[int]
    title: str
    question: str
    """What is measured, in a sentence or two for the document."""
    run: Callable[[Bench], Outcome] = field(repr=False)
