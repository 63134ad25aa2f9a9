from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unit.worker_cpu.cpu_lane import CpuLane, counts
from unit.worker_cpu.csv_import.conversions import (
    scratch,
    screen,
)
from worker_cpu.csv_import.blocks import WellFormedBlock
from worker_cpu.csv_import.dialect import Dialect
from worker_cpu.csv_import.screening import Outliers


def test_damaged_utf8_line_is_quarantined_and_the_rest_kept(lane: CpuLane) -> None:
    content = "n,t\n1,ação\n2,é\n3,".encode() + b"\xff\xfe\n4,ok\n"
    assert counts(lane.process(content)) == (4, 3, 1)
    assert lane.quarantine() == [(4, "", "not valid UTF-8", r"3,\xff\xfe")]


def test_ragged_lines_are_quarantined_with_line_column_and_text(lane: CpuLane) -> None:
    result = lane.process("a,b,c\n1,2,3\n4,5\n\n6,7,8,9\n10,11,12\n")
    assert counts(result) == (4, 2, 2)
    assert lane.quarantine() == [
        (3, "c", "2 columns instead of 3", "4,5"),
        (5, "", "4 columns instead of 3", "6,7,8,9"),
    ]
    assert [line.line for line in result.quarantine_preview] == [3, 5]


def test_quoted_newlines_delimiters_and_quotes_are_kept(lane: CpuLane) -> None:
    result = lane.process('n,t\n1,"two\nlines, ""quoted"""\n2,""\n3,"x"\nbad\n4,y\n')
    assert counts(result) == (5, 4, 1)
    assert lane.rows() == [(1, 'two\nlines, "quoted"'), (2, None), (3, "x"), (4, "y")]
    assert lane.quarantine() == [(6, "t", "1 columns instead of 2", "bad")]


def test_line_numbers_are_those_of_an_editor_after_multiline_values(lane: CpuLane) -> None:
    rows = "".join(f'{number},"a\n\nb"\n' for number in range(1, 51))
    lane.process("n,t\n" + rows + 'x,"c\nd"\n51,e\ny,f\n')
    assert [(line, raw) for line, _, _, raw in lane.quarantine()] == [
        (152, 'x,"c\nd"'),
        (155, "y,f"),
    ]


def test_unclosed_quote_quarantines_its_own_line_only(lane: CpuLane) -> None:
    rows = "".join(f"{number},ok\n" for number in range(1000))
    result = lane.process('n,t\n1,"never closed\n' + rows + '2,"fine"\n')
    assert counts(result) == (1002, 1001, 1)
    [(line, column, _, raw)] = lane.quarantine()
    assert (line, column, raw) == (2, "t", '1,"never closed')


def test_unclosed_quote_on_the_last_line_is_quarantined(lane: CpuLane) -> None:
    assert counts(lane.process('n,t\n1,x\n2,"end')) == (2, 1, 1)
    assert lane.quarantine() == [(3, "t", "a quoted value is never closed", '2,"end')]


def test_text_after_a_quoted_value_is_quarantined(lane: CpuLane) -> None:
    assert counts(lane.process('n,t\n1,"a"b\n2,c\n')) == (2, 1, 1)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_quoted_values_beside_any_delimiter_are_read(lane: CpuLane, delimiter: str) -> None:
    text = '"a","b, c",d\n1,"x, y",""\n"2",,"z"\n3,bad\n'.replace(",", delimiter)
    assert counts(lane.process(text)) == (3, 2, 1)
    assert lane.rows() == [(1, f"x{delimiter} y", None), (2, None, "z")]


def test_quotes_within_unquoted_values_and_spaces_around_quotes_are_accepted(
    lane: CpuLane,
) -> None:
    assert counts(lane.process('n,t,u\n1,5" pipe,x\n2, "a, b" ,y\n')) == (2, 2, 0)
    assert lane.rows() == [(1, '5" pipe', "x"), (2, "a, b", "y")]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_is_read(lane: CpuLane, newline: str) -> None:
    result = lane.process(newline.join(["a,b", "1,x", "2,y", "3", ""]))
    assert counts(result) == (3, 2, 1)
    assert lane.quarantine() == [(4, "b", "1 columns instead of 2", "3")]


def test_mixed_line_ends_are_read(lane: CpuLane) -> None:
    assert counts(lane.process("a,b\r\n1,x\n2,y\r\n3,z\rw\n")) == (3, 3, 0)
    assert lane.rows() == [(1, "x"), (2, "y"), (3, "z\rw")]


def test_lone_carriage_return_in_the_header_loses_no_row(lane: CpuLane) -> None:
    assert counts(lane.process('a\r"b\n1\n2\n')) == (2, 2, 0)


def test_lone_carriage_return_in_a_bad_line_is_kept_in_the_quarantine(lane: CpuLane) -> None:
    assert counts(lane.process("a,b\n1,x\nbad\rline\n")) == (2, 1, 1)
    assert lane.quarantine()[0][3] == "bad\rline"


def test_nul_in_a_later_line_is_quarantined(lane: CpuLane) -> None:
    rows = "".join(f"{number},ok\n" for number in range(10_000))
    assert counts(lane.process("n,t\n" + rows + "1,\0\n2,x\n")) == (10_002, 10_001, 1)
    assert lane.quarantine()[0][2] == "contains a NUL character"


def test_huge_field_is_kept_and_an_overlong_line_is_quarantined(lane: CpuLane) -> None:
    large = "x" * 900_000
    overlong = "y" * 5_000_000
    result = lane.process(f"n,t\n1,{large}\n2,{overlong}\n3,z\n")
    assert counts(result) == (3, 2, 1)
    [(line, _, reason, raw)] = lane.quarantine()
    assert (line, reason) == (3, "longer than 1,048,576 bytes")
    assert len(raw) <= 16 * 1024
    assert [len(text) for _, text in lane.rows()] == [900_000, 1]
    assert len(result.model_dump_json()) < 10_000


def test_overlong_line_at_the_end_is_quarantined_once(lane: CpuLane) -> None:
    assert counts(lane.process("n,t\n1,x\n2," + "y" * 5_000_000)) == (2, 1, 1)


def test_file_full_of_bad_lines_ends_with_a_clear_result(lane: CpuLane) -> None:
    result = lane.process("a,b\n" + "one,two,three\n" * 50_000)
    assert counts(result) == (50_000, 0, 50_000)
    assert len(result.quarantine_preview) == 20
    assert len(result.model_dump_json()) < 16_000


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


def block_of(lengths: list[int], outliers: list[int]) -> WellFormedBlock:
    ends = np.cumsum(lengths) - 1
    return WellFormedBlock(sum(lengths), ends, len(lengths), [(0, 0)], [], outliers)


def test_outliers_are_one_in_a_hundred_at_most_and_no_large_part_of_memory() -> None:
    outliers = Outliers()
    assert outliers.remaining(99) == 0
    assert outliers.remaining(1_000) == 10
    outliers.add(block_of([5, 3, 4], [0, 2]), number=100, start=1_000)
    assert outliers.found == [(100, 1_000, 1_005), (102, 1_008, 1_012)]
    assert outliers.remaining(1_000) == 8
    outliers.add(block_of([16 * 1024 * 1024], [0]), number=103, start=1_012)
    assert outliers.remaining(1_000_000) == 0
