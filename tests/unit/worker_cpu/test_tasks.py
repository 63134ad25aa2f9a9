from decimal import Decimal

import pytest

from contracts.storage import open_storage
from twinlane_sdk.errors import RejectedError, RetryableError
from twinlane_tasks.sales import SalesFigures
from unit.worker_cpu.cpu_lane import SALES_HEADER, CpuLane
from worker_cpu.sales.dataset import SalesDataset
from worker_cpu.settings import WorkerCpuSettings
from worker_cpu.tasks import CpuTasks

NO_SALES = SalesFigures(rows=0, quantity=0, revenue=Decimal(0), average_ticket=None)


def test_new_file_of_a_name_replaces_the_rows_of_the_old_one(lane: CpuLane) -> None:
    lane.process(
        SALES_HEADER + "1,2025-01-01,sul,a,1,1.00\n2,2025-02-01,sul,a,1,2.00\n", "loja.csv"
    )
    lane.process(SALES_HEADER + "1,2025-01-01,sul,a,1,100.00\n", "outra.csv")
    assert lane.aggregate().figures.revenue == Decimal("103.00")
    result = lane.process(SALES_HEADER + "1,2025-02-01,sul,a,1,20.00\n", "loja.csv")
    assert result.sales is not None
    assert result.sales.changed
    assert lane.aggregate().figures.revenue == Decimal("120.00")
    assert lane.aggregate(month="2025-01").figures.revenue == Decimal("100.00")


def test_importing_twice_changes_nothing(lane: CpuLane) -> None:
    first = lane.generate("vendas_2025.csv", 2_000)
    snapshot = SalesDataset(lane.storage).newest()
    second = lane.generate("vendas_2025.csv", 2_000)
    assert first.sales is not None
    assert second.sales is not None
    assert (first.sales.changed, second.sales.changed) == (True, False)
    assert SalesDataset(lane.storage).newest() == snapshot


def test_header_only_correction_removes_the_rows(lane: CpuLane) -> None:
    lane.process(SALES_HEADER + "1,2025-01-01,sul,a,1,1.00\n")
    lane.process(SALES_HEADER)
    assert lane.aggregate().figures == NO_SALES


def test_file_of_nothing_but_faults_removes_nothing(lane: CpuLane) -> None:
    lane.process(SALES_HEADER + "1,2025-01-01,sul,a,1,1.00\n")
    assert lane.process(SALES_HEADER + "broken\n").sales is None
    assert lane.aggregate().figures.rows == 1


def test_many_months_are_imported_each_as_one_part(lane: CpuLane) -> None:
    lines = [f"{n},{1950 + n // 12}-{n % 12 + 1:02d}-01,sul,a,1,1.00\n" for n in range(250)]
    result = lane.process(SALES_HEADER + "".join(lines))
    assert result.sales is not None
    assert len(result.sales.months) == 250
    assert lane.aggregate().figures.rows == 250
    assert lane.aggregate(month="1960-05").figures.rows == 1


def test_scratch_folder_is_empty_afterwards_even_after_an_error(
    lane: CpuLane, settings: WorkerCpuSettings
) -> None:
    lane.process("a\n1\n")
    with pytest.raises(RejectedError):
        lane.process(b"")
    assert list(settings.scratch_folder.iterdir()) == []


def test_fault_rate_makes_attempts_fail_for_demonstration(
    lane: CpuLane, settings: WorkerCpuSettings
) -> None:
    faulty = settings.model_copy(update={"fault_rate": 1.0})
    lane.tasks = CpuTasks(faulty, open_storage(settings.storage_url))
    with pytest.raises(RetryableError, match="on purpose"):
        lane.process("a\n1\n")
