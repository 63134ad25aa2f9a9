"""The fast path against what it must equal: the same import with nothing proven, in one piece."""

import errno
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.errors import RetryableError
from unit.worker_cpu.cpu_lane import CpuLane
from unit.worker_cpu.csv_import.conversions import (
    CENTS,
    DATABASE,
    DAYS,
    EDGE_CASES,
    FIELDS,
    QUOTED,
    WHOLE,
    as_csv,
    assert_same_as_unproven,
    scratch,
    screen,
)
from worker_cpu.csv_import import importing
from worker_cpu.csv_import.blocks import well_formed_block
from worker_cpu.csv_import.column_facts import ColumnFacts
from worker_cpu.csv_import.dialect import Dialect
from worker_cpu.csv_import.one_pass import PresumptionCheck, PresumptionError, survey
from worker_cpu.csv_import.records import RecordShape
from worker_cpu.csv_import.screening import ScreenedFile
from worker_cpu.csv_import.segments import MARK_RECORDS, RecordIndex, RecordMarks, divide
from worker_cpu.settings import WorkerCpuSettings
from worker_cpu.tasks import CpuTasks


@st.composite
def columns_of_fields(draw: st.DrawFn) -> list[list[str]]:
    """Return columns that mostly hold one kind, so that many facts hold, or nearly hold."""
    height = draw(st.integers(1, 12))
    columns = []
    for _ in range(draw(st.integers(2, 4))):
        kind = draw(st.sampled_from([WHOLE, DAYS, CENTS, FIELDS, st.just("7"), EDGE_CASES]))
        column = draw(st.lists(kind, min_size=height, max_size=height))
        if draw(st.booleans()):
            column[draw(st.integers(0, height - 1))] = draw(FIELDS | QUOTED)
        columns.append(column)
    return columns


FACTS = {
    "filled": rb"(?s:.)+",
    "short": rb"(?s:.){0,9}",
    "whole": rb"(0|[1-9]\d{0,17})?",
    "iso_date": rb"([1-9]\d{3}-\d\d-\d\d)?",
    "cents": rb"(?=.{4,18}$)\d+\.\d\d",
    "visible": rb'[^\x00- "](?s:.)*',
}


@settings(deadline=None, max_examples=30)
@given(columns_of_fields())
def test_columns_read_as_their_type_equal_those_read_as_text(columns: list[list[str]]) -> None:
    names = tuple(f"c{number}" for number in range(len(columns)))
    assert_same_as_unproven(as_csv(columns), Dialect(",", names, has_header=False))


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_sales_read_as_their_type_equal_those_read_as_text(data: st.DataObject) -> None:
    kinds = [WHOLE, DAYS, st.just("sul"), st.just("x"), st.integers(0, 99).map(str), CENTS]
    columns = [data.draw(st.lists(kind, min_size=6, max_size=6)) for kind in kinds]
    for column in data.draw(st.sets(st.integers(0, 5), max_size=3)):
        columns[column][data.draw(st.integers(0, 5))] = data.draw(FIELDS)
    names = ("sale_id", "date", "region", "product", "quantity", "unit_price")
    assert_same_as_unproven(
        (",".join(names) + "\n").encode() + as_csv(columns), Dialect(",", names, has_header=True)
    )


@settings(max_examples=300)
@given(columns_of_fields(), st.builds(ColumnFacts, **dict.fromkeys(FACTS, st.booleans())))
@example([["0.50", "7.00"], ["x", "1"]], ColumnFacts(whole=False, iso_date=False))
def test_facts_say_what_every_field_of_the_column_is(
    columns: list[list[str]], known: ColumnFacts
) -> None:
    shape = RecordShape(",", tuple(map(str, range(len(columns)))))
    block = well_formed_block(as_csv(columns), shape, [known] * len(columns))
    if block is None:
        return  # parsed record by record, and with quotes nothing is proven
    for column, facts in zip(columns, block.facts, strict=True):
        fields = [field.encode() for field in column]
        found = {name: all_match(pattern, fields) for name, pattern in FACTS.items()}
        assert facts == known & ColumnFacts(**found)


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


def all_match(pattern: bytes, fields: list[bytes]) -> bool:
    return all(re.fullmatch(pattern, field) for field in fields)


RECORDS = st.lists(st.sampled_from(["1,x", '2,"y"', '3,"a\nb"', "bad", "", '4,"', "5,é"]))


@settings(deadline=None, max_examples=60)
@given(RECORDS, st.lists(st.integers(0, 60), max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_screening_finds_the_same_however_the_bytes_arrive(
    records: list[str], cuts: list[int], newline: str
) -> None:
    content = "\n".join(["n,t", *records, ""]).replace("\n", newline).encode()
    borders = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    pieces = [content[start:end] for start, end in pairwise(borders)]
    assert screened_parts(content, [content]) == screened_parts(content, pieces)


def screened_parts(content: bytes, chunks: list[bytes]) -> tuple[object, ...]:
    with scratch() as folder:
        source = folder / "source.csv"
        source.write_bytes(content)
        found = screen(source, Dialect(",", ("n", "t"), has_header=True), folder, chunks)
        return (
            (found.well_formed, found.malformed, found.mark_starts),
            found.path.read_bytes(),
            found.line_jumps.read_bytes(),
            (folder / "malformed.csv").read_bytes(),
        )


@pytest.fixture
def two_threads(settings: WorkerCpuSettings, lane: CpuLane) -> CpuLane:
    lane.tasks = CpuTasks(settings.model_copy(update={"cpu_threads": 2}), lane.storage)
    return lane


def test_two_threads_leave_identical_bytes_every_time(two_threads: CpuLane) -> None:
    jobs = ["first", "second", "third"]
    for job in jobs:
        two_threads.generate("vendas_2025.csv", 400_000, job)
    for name in ("data.parquet", "profile.json"):
        assert len({two_threads.artifact(name, job) for job in jobs}) == 1


def test_two_threads_keep_the_order_of_the_rows(two_threads: CpuLane) -> None:
    two_threads.process("n,t\n" + "".join(f"{number},x\n" for number in range(300_000)))
    assert [number for number, _ in two_threads.rows()] == list(range(300_000))


def test_two_threads_quarantine_the_same_lines_as_one(
    two_threads: CpuLane, settings: WorkerCpuSettings
) -> None:
    lines = [f"{number},2025-01-31" for number in range(20_000)]
    lines[777], lines[15_000], lines[19_999] = "x,2025-01-31", "bad", "7,2025-02-30"
    content = "n,d\n" + "\n".join(lines)
    result = two_threads.process(content, job_id="two")
    two_threads.tasks = CpuTasks(settings, two_threads.storage)
    two_threads.process(content, job_id="one")
    assert (result.rows_in, result.rows_clean) == (20_000, 19_997)
    assert two_threads.quarantine("two") == two_threads.quarantine("one")
    assert two_threads.artifact("data.parquet", "two") == two_threads.artifact(
        "data.parquet", "one"
    )


@pytest.mark.parametrize("content", ["n,t\n1,x\n2,y\n", 'n,t\n1,"x"\n2,y\n'])
def test_import_is_retried_if_the_disk_fails_while_duckdb_reads(
    lane: CpuLane, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    def pread(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("worker_cpu.csv_import.segments.os.pread", pread)
    with pytest.raises(RetryableError, match="Input/output error"):
        lane.process(content)


def marks_of(lengths: list[int], *, has_header: bool) -> RecordMarks:
    marks = RecordMarks(has_header=has_header)
    for length in lengths:
        marks.add(np.array([length - 1]))
    return marks


def index_of(marks: RecordMarks) -> RecordIndex:
    return RecordIndex(Path("not read"), marks.size_bytes, marks.records, marks.starts)


def test_segments_hold_equally_many_records_and_every_byte() -> None:
    marks = marks_of([5] + [10] * (5 * MARK_RECORDS + 1), has_header=True)
    segments = divide(index_of(marks), most_rows=2 * MARK_RECORDS + 7)
    assert segments is not None
    assert segments.rows == 2 * MARK_RECORDS
    size = 10 * segments.rows
    assert segments.parts == [(5, size), (5 + size, size), (5 + 2 * size, size // 2 + 10)]


@pytest.mark.parametrize(("long", "rows"), [(1_000, 3 * MARK_RECORDS), (2_000, MARK_RECORDS)])
def test_longer_records_make_segments_of_fewer(long: int, rows: int) -> None:
    marks = marks_of([long] * 6 * MARK_RECORDS, has_header=False)
    segments = divide(index_of(marks), most_rows=100_000)
    assert segments is not None
    assert segments.rows == rows


def test_records_too_long_for_any_segment_are_not_divided() -> None:
    marks = marks_of([5_000] * 2 * MARK_RECORDS, has_header=False)
    assert divide(index_of(marks), most_rows=100_000) is None
