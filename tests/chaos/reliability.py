"""docs/RELIABILITY.md, written by the run: each test's promise, its fault and what was measured.

A test's docstring is the first two: a sentence that promises, and a paragraph `Fault: …` that
says how the promise is put to the test. The third is what the test gave to `measured`.
"""

import inspect
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

NOT_RUN: Final = "not run"
_FAULT: Final = "Fault: "


@dataclass
class Row:
    """One promise, and how it was kept."""

    section: str
    promise: str
    fault: str
    outcomes: dict[str, str] = field(default_factory=dict)
    verdict: str = NOT_RUN
    table: list[str] = field(default_factory=list)
    """More than fits a row: for the terminal only."""

    @property
    def measured(self) -> str:
        return "; ".join(f"{what}: {value}" for what, value in self.outcomes.items())


class Measured:
    """What one test found out: `measured.seconds("back after", 3.21)`."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def fault(self, fault: str) -> None:
        """Say what was done, where the docstring can't know it."""
        self._row.fault = fault

    def note(self, what: str, value: object) -> None:
        self._row.outcomes[what] = f"{value:,}" if isinstance(value, int) else str(value)

    def table(self, lines: list[str]) -> None:
        """Show more than fits a row, on the terminal."""
        self._row.table = lines

    def seconds(self, what: str, value: float) -> None:
        shown = f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
        self._row.outcomes[what] = shown


@dataclass(frozen=True)
class Run:
    """What the rows were measured on."""

    rabbitmq: str
    redis: str
    servers: str
    seed: int


def row_of(module: object, function: object) -> Row:
    """Return the row that a test's docstring begins.

    Raises:
        ValueError: it has none, or it does not say what the fault is.

    """
    section = (inspect.getdoc(module) or "").partition("\n")[0].rstrip(".")
    text = inspect.getdoc(function) or ""
    promise, _, fault = text.partition(_FAULT)
    if not promise.strip() or not fault.strip():
        name = getattr(function, "__name__", function)
        raise ValueError(f"{name}: the docstring needs a promise and a paragraph «{_FAULT}…»")
    return Row(section, _one_line(promise), _one_line(fault))


def write(path: Path, rows: list[Row], run: Run) -> None:
    """Write the document."""
    sections = sorted({row.section for row in rows})
    lines = [_HEAD.format(**_facts(run, rows))]
    for section in sections:
        lines += [f"## {section}", "", "| Promise | Fault | Measured |", "| --- | --- | --- |"]
        lines += [
            f"| {_cell(row.promise)} | {_cell(row.fault)} | {_cell(row.measured) or 'held'} |"
            for row in rows
            if row.section == section
        ]
        lines.append("")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


def show(rows: list[Row]) -> list[str]:
    """Return the rows as lines for a terminal."""
    lines: list[str] = []
    for row in rows:
        lines += [f"{row.verdict:8} {row.promise}", f"         {row.fault} {row.measured}"]
        lines += [f"         {line}" for line in row.table]
    return lines


_HEAD: Final = """\
# What Twinlane promises, and what was measured

Written by `make chaos`; do not edit. Each row is a test in `tests/chaos`: what it promises, the
fault that it causes on real servers and real processes, and what it measured. A run in which any
of them fails writes nothing.

Run on {date}: {count} promises, RabbitMQ {rabbitmq}, Redis {redis} ({servers}), Python {python}, \
{cores} cores, soak's seed {seed}.
"""


def _facts(run: Run, rows: list[Row]) -> dict[str, object]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "count": len(rows),
        "rabbitmq": run.rabbitmq,
        "redis": run.redis,
        "servers": run.servers,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "seed": run.seed,
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
