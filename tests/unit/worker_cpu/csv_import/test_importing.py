import random
from datetime import date

import pytest

from twinlane_sdk.errors import RejectedError
from unit.worker_cpu.cpu_lane import CpuLane, counts, types


def test_clean_file_keeps_every_value_in_its_type(lane: CpuLane) -> None:
    result = lane.process(
        "id,name,price,day,seen,ok\n"
        "1,Ana,1.5,2025-01-31,2025-01-31 10:00:00,true\n"
        "2,Bia,,2025-02-01,2025-02-01T11:30:00,false\n"
    )
    assert counts(result) == (2, 2, 0)
    assert types(result) == ["BIGINT", "VARCHAR", "DOUBLE", "DATE", "TIMESTAMP", "BOOLEAN"]
    assert lane.rows()[1][:4] == (2, "Bia", None, date(2025, 2, 1))
    assert lane.quarantine() == []
    assert (result.encoding, result.delimiter) == ("utf-8", ",")


@pytest.mark.parametrize("content", [b"", b"\n\n \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_empty_file_is_rejected(lane: CpuLane, content: bytes) -> None:
    with pytest.raises(RejectedError, match="empty"):
        lane.process(content)


def test_every_record_is_counted_whatever_the_damage(lane: CpuLane) -> None:
    generator = random.Random(7)  # noqa: S311 - test data
    pieces = ["1", "x", '"', '""', ",", ",", "\n", "\n", "\r\n", '"a\nb"', " ", "é", "2025-01-01"]
    for number in range(60):
        text = "a,b,c\n" + "".join(generator.choices(pieces, k=generator.randint(1, 400)))
        result = lane.process(text, job_id=f"fuzz-{number}")
        assert result.rows_in == result.rows_clean + result.rows_quarantined
        assert len(lane.rows(f"fuzz-{number}")) == result.rows_clean
        assert len(lane.quarantine(f"fuzz-{number}")) == result.rows_quarantined


def test_running_twice_leaves_identical_bytes(lane: CpuLane) -> None:
    content = 'n,t\n1,x\n2,"y\nz"\nbad\n3,w\n' * 50
    for job in ("first", "second"):
        lane.process(content, job_id=job)
    for name in ("data.parquet", "quarantine.csv", "profile.json"):
        assert lane.artifact(name, "first") == lane.artifact(name, "second")
