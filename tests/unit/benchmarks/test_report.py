from pathlib import Path

import pytest

from benchmarks.bench import Bench
from benchmarks.measure import Bars, Curves, Measure, Outcome, Plot, Row, Table, at_least, at_most
from benchmarks.report import Section, write
from benchmarks.samples import Sample

RATES = {"ours": Sample((300.0, 310.0, 290.0), "jobs/s"), "theirs": Sample((100.0,), "jobs/s")}


def nothing(_: Bench) -> Outcome:
    pytest.fail("a report is of what was measured: it measures nothing")


MEASURE = Measure((1, 2), "Submissions", "How many?", nothing)


def document(tmp_path: Path, *sections: Section, quick: bool = False) -> str:
    path = tmp_path / "docs" / "BENCHMARKS.md"
    write(path, sections, {"Cores": "2"}, quick=quick)
    return path.read_text()


def test_goals_say_whether_they_were_met_and_by_what_ratio(tmp_path: Path) -> None:
    outcome = Outcome(
        verdicts=[
            at_least(2.5, 1, "≥ 2.5 × theirs", Sample((3.0, 2.6, 2.4), "×")),
            at_most(0.4, 2, "≤ 0.4 × theirs", Sample((0.41,), "×"), "The parser takes the rest."),
        ],
        tables=[],
    )
    text = document(tmp_path, Section(MEASURE, outcome))
    assert "| 1 | ≥ 2.5 × theirs | 2.60 (2.40–3.00) × | met |" in text
    assert "| 2 | ≤ 0.4 × theirs | 0.41 × | **not met** |" in text
    assert "Not met: ≤ 0.4 × theirs. The parser takes the rest." in text


def test_goal_that_is_just_reached_is_met() -> None:
    exact = Sample((2.5,), "×")
    assert at_least(2.5, 1, "", exact).met
    assert at_most(2.5, 1, "", exact).met


def test_table_has_a_row_for_each_side_and_ours_stands_out(tmp_path: Path) -> None:
    rows = [Row("ours", (RATES["ours"], "a | b"), ours=True), Row("theirs", (RATES["theirs"], ""))]
    outcome = Outcome([], [Table(("Side", "Rate", "Survives"), rows)])
    text = document(tmp_path, Section(MEASURE, outcome))
    assert "| Side | Rate | Survives |\n| --- | --- | --- |" in text
    assert r"| **ours** | 300 (290–310) jobs/s | a \| b |" in text
    assert "| theirs | 100 jobs/s |  |" in text


def test_row_that_does_not_fit_its_table_is_refused(tmp_path: Path) -> None:
    outcome = Outcome([], [Table(("Side", "Rate"), [Row("ours", ("1", "2"))])])
    with pytest.raises(ValueError, match="ours: 3 cells for 2 columns"):
        document(tmp_path, Section(MEASURE, outcome))


def test_measure_that_failed_is_shown_with_its_reason(tmp_path: Path) -> None:
    text = document(tmp_path, Section(MEASURE, None, "LoadError: answered 503"))
    assert "| 1, 2 | Submissions | — | **failed** |" in text
    assert "LoadError: answered 503" in text


def test_pictures_are_beside_the_document_that_shows_them(tmp_path: Path) -> None:
    plots: list[Plot] = [
        Bars("rates", "Rates", RATES, goal=250),
        Curves("depth", "Rate by depth", "messages", {"ours": [(1, RATES["ours"])]}, log_x=True),
    ]
    text = document(tmp_path, Section(MEASURE, Outcome([], [], plots)))
    for name, title in (("rates", "Rates"), ("depth", "Rate by depth")):
        assert f"![{title}](benchmarks/{name}.png)" in text
        assert (tmp_path / "docs" / "benchmarks" / f"{name}.png").read_bytes()[1:4] == b"PNG"


def test_quick_run_says_that_it_is_one(tmp_path: Path) -> None:
    assert "A quick run" in document(tmp_path, quick=True)
    assert "A quick run" not in document(tmp_path)


def test_document_names_what_it_was_measured_on(tmp_path: Path) -> None:
    assert "| Cores | 2 |" in document(tmp_path)
