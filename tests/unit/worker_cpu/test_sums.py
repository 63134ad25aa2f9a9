from twinlane_tasks.sums import SumArgs
from unit.worker_cpu.cpu_lane import CpuLane
from worker_cpu.sums import simulate_processing


def test_sum_is_exact_for_integers_of_any_size(lane: CpuLane) -> None:
    result = lane.tasks.sum_numbers(SumArgs(a=10**3999, b=-1), lane.job("sum"))
    assert result.total == 10**3999 - 1


def test_simulated_processing_reports_each_second_and_takes_its_time() -> None:
    slept: list[float] = []
    reported: list[tuple[int, int | None, str]] = []

    def progress(current: int, total: int | None, unit: str, message: str | None = None) -> None:
        assert message == "simulated processing"
        reported.append((current, total, unit))

    simulate_processing(3.2, progress, slept.append)
    assert abs(sum(slept) - 3.2) < 1e-9
    assert sorted(set(reported)) == [(second, 3, "seconds") for second in range(4)]


def test_no_delay_reports_nothing() -> None:
    def progress(current: int, total: int | None, unit: str, message: str | None = None) -> None:
        raise AssertionError((current, total, unit, message))

    simulate_processing(0, progress)
