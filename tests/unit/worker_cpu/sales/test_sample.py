from unit.worker_cpu.cpu_lane import CpuLane, counts


def test_sample_is_the_same_for_the_same_name_and_rows(lane: CpuLane) -> None:
    result = lane.generate("vendas_2023.csv", 5_000, "first")
    lane.generate("vendas_2023.csv", 5_000, "second")
    lane.generate("other_2023.csv", 5_000, "third")
    assert result.generated
    assert counts(result) == (5_000, 5_000, 0)
    assert lane.rows("first") == lane.rows("second")
    assert lane.rows("first") != lane.rows("third")


def test_sample_is_of_the_year_that_its_name_mentions(lane: CpuLane) -> None:
    result = lane.generate("vendas_2023.csv", 5_000)
    assert result.sales
    assert result.sales.months == [f"2023-{month:02d}" for month in range(1, 13)]
