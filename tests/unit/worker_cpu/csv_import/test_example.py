from pathlib import Path

from unit.worker_cpu.cpu_lane import CpuLane

EXAMPLE = Path(__file__).parents[4] / "examples" / "vendas.csv"


def test_example_file_is_imported_but_for_its_four_bad_lines(lane: CpuLane) -> None:
    result = lane.process(EXAMPLE.read_bytes(), "vendas.csv")
    assert (result.rows_in, result.rows_clean, result.rows_quarantined) == (1000, 996, 4)
    assert [line.line for line in result.quarantine_preview] == [181, 378, 613, 851]
    assert result.sales is not None
    assert result.sales.months == ["2025-01", "2025-02", "2025-03"]
