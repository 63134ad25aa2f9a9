"""docs/BENCHMARKS.md, written by the run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Final

from benchmarks.measure import Measure, Outcome, Row, Table, Verdict
from benchmarks.plots import draw
from benchmarks.samples import Sample

_WIDTH: Final = 100


@dataclass(frozen=True)
class Section:
    """A measure, and what came of it or why nothing did."""

    measure: Measure
    outcome: Outcome | None
    failure: str = ""


def write(path: Path, sections: Sequence[Section], run: Mapping[str, str], *, quick: bool) -> None:
    """Write the document and, into the folder `benchmarks` beside it, its pictures."""
    pictures = path.parent / "benchmarks"
    lines = [_HEAD, *([_QUICK] if quick else []), *_goals(sections)]
    for section in sections:
        lines += _section(section, pictures)
    lines += ["## The run", "", "| | |", "| --- | --- |"]
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in run.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _goals(sections: Sequence[Section]) -> Iterator[str]:
    yield from ["## Goals", "", "| # | Goal | Measured | |", "| --- | --- | --- | --- |"]
    for section in sections:
        if section.outcome is None:
            numbers = ", ".join(str(number) for number in section.measure.numbers)
            yield f"| {numbers} | {_cell(section.measure.title)} | — | **failed** |"
        else:
            yield from (_goal(verdict) for verdict in section.outcome.verdicts)
    yield ""


def _goal(verdict: Verdict) -> str:
    met = "met" if verdict.met else "**not met**"
    return f"| {verdict.number} | {_cell(verdict.goal)} | {_cell(verdict.measured)} | {met} |"


def _section(section: Section, pictures: Path) -> Iterator[str]:
    measure, outcome = section.measure, section.outcome
    numbers = ", ".join(str(number) for number in measure.numbers)
    yield from [f"## {numbers}. {measure.title}", "", _wrapped(measure.question), ""]
    if outcome is None:
        yield from ["**The measure failed:**", "", "```", section.failure, "```", ""]
        return
    for table in outcome.tables:
        yield from _table(table)
    for plot in outcome.plots:
        picture = draw(plot, pictures)
        yield from [f"![{plot.title}]({picture.parent.name}/{picture.name})", ""]
    for note in outcome.notes:
        yield from [_wrapped(note), ""]
    for verdict in outcome.verdicts:
        if not verdict.met and verdict.explanation:
            yield from [_wrapped(f"Not met: {verdict.goal}. {verdict.explanation}"), ""]


def _table(table: Table) -> Iterator[str]:
    if table.caption:
        yield from [f"{table.caption}:", ""]
    yield f"| {' | '.join(_cell(column) for column in table.columns)} |"
    yield f"| {' | '.join('---' for _ in table.columns)} |"
    yield from (_row(row, len(table.columns)) for row in table.rows)
    yield ""


def _row(row: Row, columns: int) -> str:
    cells = [f"**{_cell(row.side)}**" if row.ours else _cell(row.side)]
    cells += [_cell(cell) for cell in row.cells]
    if len(cells) != columns:
        raise ValueError(f"{row.side}: {len(cells)} cells for {columns} columns")
    return f"| {' | '.join(cells)} |"


def _wrapped(paragraph: str) -> str:
    return fill(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _cell(content: Sample | str) -> str:
    return str(content).replace("|", r"\|").replace("\n", " ")


_HEAD: Final = """\
# How fast Twinlane is

Written by `make bench`; do not edit. All sides of a comparison ran one after the other in every
round of the same run, on the machine named [at the end](#the-run), each round beginning with
another side. A figure is the median of the rounds, with the lowest and the highest in brackets;
the ratio of two sides is taken round by round. Ratios carry over to other machines, figures do not.
Where the time goes when a goal is missed is in [PROFILES.md](PROFILES.md).

Peers run in environments of their own, as `tests/benchmarks/peers` locks and configures them; how
much each would lose when a machine dies is stated beside its figures. Servers, workers, APIs and
the load generator share the cores, none is pinned and all have the same priority. Every round
begins with empty queues and an empty Redis, and what comes before its measured time, to warm up,
does not count. All of it is one machine: no network lies between the parts, and a quorum queue has
one replica, which writes to disk before it confirms.
"""

_QUICK: Final = "**A quick run, to try the measures: one short round. Its figures mean little.**\n"
