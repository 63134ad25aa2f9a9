import csv
from pathlib import Path

import pytest

from twinlane_tasks.csv import QuarantinedLine
from worker_cpu.csv_import.quarantine import (
    BadLine,
    QuarantineWriter,
    merge_quarantines,
    preview,
    read_quarantine,
)

LINES = [
    BadLine(2, "=col", "=1 is no number", "=1;2"),
    BadLine(3, None, "-5 is too low", "'=escaped by somebody"),
    BadLine(5, "-", "harmless", "2;=1"),
    BadLine(8, "@x", "+", "\t=1"),
]


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    sources = [tmp_path / "even.csv", tmp_path / "odd.csv"]
    for source, rest in zip(sources, (0, 1), strict=True):
        with QuarantineWriter(source) as writer:
            for bad in LINES:
                if bad.line % 2 == rest:
                    writer.add(bad.line, bad.column, bad.reason, bad.raw.encode())
    target = tmp_path / "quarantine.csv"
    assert merge_quarantines(sources, target) == len(LINES)
    return target


def test_no_cell_is_a_formula_and_none_is_escaped_twice(merged: Path) -> None:
    with merged.open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    assert rows == [
        ["2", "'=col", "'=1 is no number", "'=1;2"],
        ["3", "", "'-5 is too low", "''=escaped by somebody"],
        ["5", "'-", "harmless", "2;=1"],
        ["8", "'@x", "'+", "'\t=1"],
    ]


def test_what_was_quarantined_is_read_back_as_it_was(merged: Path) -> None:
    assert list(read_quarantine(merged)) == LINES


def test_preview_is_not_escaped(merged: Path) -> None:
    assert preview(merged) == [
        QuarantinedLine(line=bad.line, column=bad.column, reason=bad.reason, raw=bad.raw)
        for bad in LINES
    ]
