import errno
from pathlib import Path

import numpy as np
import pytest

from twinlane_sdk.errors import RetryableError
from unit.worker_cpu.cpu_lane import CpuLane
from worker_cpu.csv_import.segments import (
    MARK_RECORDS,
    Patch,
    Patches,
    RecordIndex,
    RecordMarks,
    divide,
    divide_without,
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


def index_of_marks(marks: RecordMarks) -> RecordIndex:
    return RecordIndex(Path("not read"), marks.size_bytes, marks.records, marks.starts)


def test_segments_hold_equally_many_records_and_every_byte() -> None:
    marks = marks_of([5] + [10] * (5 * MARK_RECORDS + 1), has_header=True)
    segments = divide(index_of_marks(marks), most_rows=2 * MARK_RECORDS + 7)
    assert segments is not None
    assert segments.rows == 2 * MARK_RECORDS
    size = 10 * segments.rows
    assert segments.parts == [(5, size), (5 + size, size), (5 + 2 * size, size // 2 + 10)]


@pytest.mark.parametrize(("long", "rows"), [(1_000, 3 * MARK_RECORDS), (2_000, MARK_RECORDS)])
def test_longer_records_make_segments_of_fewer(long: int, rows: int) -> None:
    marks = marks_of([long] * 6 * MARK_RECORDS, has_header=False)
    segments = divide(index_of_marks(marks), most_rows=100_000)
    assert segments is not None
    assert segments.rows == rows


def test_records_too_long_for_any_segment_are_not_divided() -> None:
    marks = marks_of([5_000] * 2 * MARK_RECORDS, has_header=False)
    assert divide(index_of_marks(marks), most_rows=100_000) is None


def index_of_records(folder: Path, records: list[bytes]) -> RecordIndex:
    path = folder / "records.csv"
    path.write_bytes(b"header\n" + b"".join(records))
    starts = [7 + len(b"".join(records[:mark])) for mark in range(0, len(records), MARK_RECORDS)]
    return RecordIndex(path, path.stat().st_size, len(records), starts)


def test_a_record_is_found_behind_line_breaks_within_quotes(tmp_path: Path) -> None:
    records = [b'1,"a\n""b"\n' if number % 3 else b"1,x\n" for number in range(5_000)]
    index = index_of_records(tmp_path, records)
    for number in (0, 1, 2_047, 2_048, 2_050, 4_999):
        assert index.start_of(number) == 7 + len(b"".join(records[:number]))


def test_segments_count_only_what_is_kept(tmp_path: Path) -> None:
    records = [b"x" * (1 + number % 5) + b"\n" for number in range(3 * MARK_RECORDS)]
    left_out = [0, 1, MARK_RECORDS, 2 * MARK_RECORDS + 10]
    index = index_of_records(tmp_path, records)
    segments = divide_without(left_out, index, MARK_RECORDS)
    content = index.path.read_bytes()
    numbers = iter(range(len(records)))
    kept = []
    for first, size in segments.parts:
        lines = content[first : first + size].splitlines()
        kept.append(sum(next(numbers) not in left_out for _ in lines))
    assert kept == [MARK_RECORDS, MARK_RECORDS, MARK_RECORDS - len(left_out)]
    assert next(numbers, None) is None


def test_patches_change_the_parts_of_a_file_that_they_lie_in() -> None:
    content = b"0123456789"
    patches = Patches([Patch(0, 2, b""), Patch(4, 5, b"four"), Patch(8, 11, b"end")])
    for first, size, wanted in ((0, 10, b"23four567end"), (2, 2, b"23"), (4, 4, b"four567")):
        part = content[first : first + size]
        assert patches.applied(part, first) == wanted
        assert patches.size_bytes(first, size) == len(wanted)
