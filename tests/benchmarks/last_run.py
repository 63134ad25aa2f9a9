"""The last whole run, kept so that single goals can be measured again and the rest stays."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.report import Section

_PATH: Final = Path(__file__).parents[2] / ".local" / "benchmarks" / "last-run.pickle"


@dataclass(frozen=True)
class Run:
    """What a run found, and on what: the facts at the end of the document."""

    sections: Sequence[Section]
    facts: Mapping[str, str]

    def with_again(self, again: Sequence[Section], fact: str) -> "Run":
        """Return this run with some of its measures replaced; the facts say so."""
        by_title = {section.measure.title: section for section in again}
        numbers = sorted(number for section in again for number in section.measure.numbers)
        goals = ", ".join(str(number) for number in numbers)
        return Run(
            [by_title.get(section.measure.title, section) for section in self.sections],
            {**self.facts, f"Measured again: {goals}": fact},
        )


def save(run: Run) -> None:
    """Keep a run."""
    _PATH.parent.mkdir(parents=True, exist_ok=True)
    _PATH.write_bytes(pickle.dumps(run))


def load() -> Run:
    """Return the run that was kept last."""
    if not _PATH.exists():
        raise SystemExit("--again needs a whole run before it: make bench")
    run: Run = pickle.loads(_PATH.read_bytes())  # noqa: S301 - our own file
    return run
