import pytest

from twinlane_sdk.errors import RejectedError
from unit.worker_cpu.cpu_lane import CpuLane, counts


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found(lane: CpuLane, delimiter: str) -> None:
    text = "a,b,c\n1,x y,2\n3,z,4\n".replace(",", delimiter)
    assert lane.process(text).delimiter == delimiter
    assert lane.rows() == [(1, "x y", 2), (3, "z", 4)]


@pytest.mark.parametrize("content", ["a,b\n", "a,b", "a,b\r\n", "a,b\n\n\n"])
def test_header_only_file_has_no_rows(lane: CpuLane, content: str) -> None:
    result = lane.process(content)
    assert counts(result) == (0, 0, 0)
    assert [column.name for column in result.columns] == ["a", "b"]
    assert lane.rows() == []


def test_file_without_a_header_gets_numbered_columns(lane: CpuLane) -> None:
    result = lane.process("1,2025-01-01,x\n2,2025-01-02,y\n")
    assert [column.name for column in result.columns] == ["column_1", "column_2", "column_3"]
    assert counts(result) == (2, 2, 0)


def test_years_may_be_the_names_of_columns(lane: CpuLane) -> None:
    result = lane.process("region,2024,2025\nsul,1,2\n")
    assert [column.name for column in result.columns] == ["region", "2024", "2025"]


def test_duplicate_missing_and_hostile_column_names_are_made_usable(lane: CpuLane) -> None:
    result = lane.process("""a,A,,"x'y","p""q; DROP TABLE t",a_2\n1,2,3,4,5,6\n""")
    names = [column.name for column in result.columns]
    assert names == ["a", "A_2", "column_3", "x'y", 'p"q; DROP TABLE t', "a_2_2"]
    assert lane.rows() == [(1, 2, 3, 4, 5, 6)]


def test_more_columns_than_allowed_are_rejected(lane: CpuLane) -> None:
    with pytest.raises(RejectedError, match="501 columns"):
        lane.process(",".join(f"c{number}" for number in range(501)) + "\n")
