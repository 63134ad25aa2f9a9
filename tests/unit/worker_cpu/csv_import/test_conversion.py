"""Conversions with facts proven, against the same ones in one piece with nothing proven."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unit.worker_cpu.cpu_lane import CpuLane
from unit.worker_cpu.csv_import.conversions import (
    CENTS,
    DAYS,
    FIELDS,
    WHOLE,
    as_csv,
    assert_same_as_unproven,
    columns_of_fields,
)
from worker_cpu.csv_import.dialect import Dialect
from worker_cpu.settings import WorkerCpuSettings
from worker_cpu.tasks import CpuTasks


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
