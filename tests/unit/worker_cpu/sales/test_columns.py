from datetime import date
from decimal import Decimal

from unit.worker_cpu.cpu_lane import CpuLane


def test_sales_columns_are_found_in_any_order_and_case(lane: CpuLane) -> None:
    result = lane.process(
        "Unit_Price;NOTE;Region;Product;DATE;Quantity;Sale_ID\n"
        '"1.234,50";x;Sul;Mouse;31/01/2025;2;7\n'
    )
    assert result.sales is not None
    assert (result.sales.rows, result.sales.months) == (1, ["2025-01"])
    assert lane.aggregate(region="sul").figures.revenue == Decimal("2469.00")
    assert lane.rows() == [(Decimal("1234.50"), "x", "Sul", "Mouse", date(2025, 1, 31), 2, 7)]


def test_file_without_the_sales_columns_is_not_imported(lane: CpuLane) -> None:
    assert lane.process("sale_id,date,region\n1,2025-01-01,sul\n").sales is None
