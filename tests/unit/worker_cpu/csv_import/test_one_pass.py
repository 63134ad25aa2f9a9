"""Imports in one pass against what they must equal: the same in two passes."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unit.worker_cpu.csv_import.conversions import (
    DATABASE,
    scratch,
    screen,
)
from worker_cpu.csv_import import importing
from worker_cpu.csv_import.column_facts import ColumnFacts
from worker_cpu.csv_import.dialect import Dialect
from worker_cpu.csv_import.one_pass import PresumptionCheck, PresumptionError, survey
from worker_cpu.csv_import.records import RecordShape
from worker_cpu.csv_import.screening import ScreenedFile
from worker_cpu.csv_import.segments import MARK_RECORDS


def imported(content: bytes, *, in_one_pass: bool) -> tuple[object, ...]:
    """Return all that an import leaves."""
    with scratch() as folder, pytest.MonkeyPatch.context() as patch:
        source = folder / "source.csv"
        source.write_bytes(content)
        if not in_one_pass:
            patch.setattr(importing, "survey", lambda *_, **__: None)
        found = importing.import_csv(source, folder, DATABASE, 100, lambda *_: None)
        files = (importing.DATA, importing.PROFILE, importing.QUARANTINE)
        return (replace(found, folder=Path()), *((folder / name).read_bytes() for name in files))


LATE = st.sampled_from(
    [
        *("1,2,3", "1", "", "x,y", '"1",y', '1,"y', "1,\0", "1,\r", "\u0661,y", "01,y", "+1,y"),
        *("1.5,y", ",y", "1, ", "2025-02-30,y", "1,é", "12345678901234567890,y", '1,a"b'),
    ]
)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(LATE, max_size=2),
    st.sampled_from(["1,y", "2025-01-31,y", "0.50,é", "x,1"]),
    st.sampled_from(["\n", ""]),
    st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
)
def test_an_import_in_one_pass_equals_one_in_two(
    late: list[str], usual: str, end: str, encoding: str
) -> None:
    lines = ["n,t", *[usual] * (2 * MARK_RECORDS), *late, usual]
    content = ("\n".join(lines) + end).encode(encoding, errors="replace")
    assert imported(content, in_one_pass=True) == imported(content, in_one_pass=False)


@pytest.mark.parametrize("late", ["01,y", "1,\0", "2025-02-30,y", "9,ok"])
def test_a_fault_in_a_later_segment_changes_nothing(late: str) -> None:
    lines = ["n,t", *["1,x"] * 300_000, late, "7,x", ""]
    content = "\n".join(lines).encode()
    assert imported(content, in_one_pass=True) == imported(content, in_one_pass=False)


def presumed(folder: Path, content: bytes, dialect: Dialect) -> ScreenedFile | None:
    source = folder / "source.csv"
    source.write_bytes(content)
    shape = RecordShape(dialect.delimiter, dialect.columns)
    return survey(source, shape, folder, has_header=dialect.has_header)


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_file_without_fault_is_presumed_as_it_is_screened(end: str) -> None:
    content = (
        "n,t\n" + "".join(f"{n},é\n" for n in range(5 * MARK_RECORDS)) + "7,x" + end
    ).encode()
    dialect = Dialect(",", ("n", "t"), has_header=True)
    with scratch() as folder:
        presumption = presumed(folder, content, dialect)
        assert presumption is not None
        assert presumption.line_jumps.read_bytes() == b""
        with scratch() as other:
            found = screen(folder / "source.csv", dialect, other, [content])
            assert found.line_jumps.read_bytes() == b""
        same = replace(presumption, line_jumps=found.line_jumps, facts=found.facts)
    assert same == found


@pytest.mark.parametrize(
    "content",
    ['n,t\n1,"x"\n', "n,t\n1\n", "n\n", "n,t\n", "n,t\r\n1,x\r\n", "n,t\n1," + "x" * 2**21],
)
def test_what_can_not_be_read_in_one_pass_is_not_tried(content: str) -> None:
    with scratch() as folder:
        assert presumed(folder, content.encode(), Dialect(",", ("n", "t"), has_header=True)) is None


@pytest.mark.parametrize(
    "line", [b"1,2,3", b"1", b"", b'"1",y', b"1,\0", b"1,\r", b"1,\xff", b"01,y", b"x,y"]
)
def test_a_faulty_line_ends_the_check(line: bytes) -> None:
    shape = RecordShape(",", ("n", "t"))
    presumption = PresumptionCheck(shape, [ColumnFacts()] * 2, lambda facts: facts[0].whole)
    presumption.check(b"1,y\n" * 100)
    assert presumption.records == 100
    with pytest.raises(PresumptionError):
        presumption.check(b"1,y\n" * 100 + line + b"\n" + b"1,y\n")
