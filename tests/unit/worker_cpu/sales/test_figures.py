from decimal import ROUND_HALF_UP, Decimal

from twinlane_tasks.sales import AggregateSalesResult, ProductSales
from unit.worker_cpu.cpu_lane import SALES_HEADER, CpuLane

NOTHING = (0, 0, Decimal(0), None)


def sums(result: AggregateSalesResult) -> tuple[int, int, Decimal, Decimal | None]:
    figures = result.figures
    return figures.rows, figures.quantity, figures.revenue, figures.average_ticket


def test_figures_equal_those_of_python_decimals(lane: CpuLane) -> None:
    lane.generate("vendas_2025.csv", 20_000)
    rows = [row for row in lane.rows() if row[2] == "sul" and row[1].month == 3]
    revenue = sum((row[4] * row[5] for row in rows), Decimal(0))
    average = (revenue / len(rows)).quantize(Decimal("0.01"), ROUND_HALF_UP)
    result = lane.aggregate(region="sul", month="2025-03")
    assert sums(result) == (len(rows), sum(row[4] for row in rows), revenue, average)
    by_product: dict[str, Decimal] = {}
    for row in rows:
        by_product[row[3]] = by_product.get(row[3], Decimal(0)) + row[4] * row[5]
    best = sorted(by_product.items(), key=lambda item: (-item[1], item[0]))[:5]
    assert [(top.product, top.revenue) for top in result.top_products] == best


def test_revenue_is_exact_where_floats_are_not(lane: CpuLane) -> None:
    lane.process(
        SALES_HEADER + "1,2025-01-01,sul,a,3,0.10\n2,2025-01-02,sul,a,1,9999999999999999.99\n"
    )
    assert lane.aggregate().figures.revenue == Decimal("10000000000000000.29")


def test_average_ticket_is_rounded_half_up(lane: CpuLane) -> None:
    lane.process(SALES_HEADER + "1,2025-01-01,sul,a,1,0.05\n2,2025-01-01,sul,a,1,0.00\n")
    assert lane.aggregate().figures.average_ticket == Decimal("0.03")


def test_no_data_is_zero_without_an_average(lane: CpuLane) -> None:
    result = lane.aggregate(region="sul", month="2025-01")
    assert sums(result) == NOTHING
    assert result.top_products == []
    assert result.revenue_change_percent is None
    assert sums(lane.aggregate()) == NOTHING


def test_january_is_compared_with_december_of_the_year_before(lane: CpuLane) -> None:
    lane.process(SALES_HEADER + "1,2024-12-31,sul,a,1,30.00\n2,2025-01-01,sul,a,1,40.00\n")
    result = lane.aggregate(region="sul", month="2025-01")
    assert result.previous_month == "2024-12"
    assert result.previous is not None
    assert result.previous.revenue == Decimal("30.00")
    assert result.revenue_change_percent == Decimal("33.33")


def test_range_is_compared_with_as_many_months_before(lane: CpuLane) -> None:
    lines = [f"{month},2025-{month:02d}-15,sul,a,1,{month}.00\n" for month in range(1, 7)]
    lane.process(SALES_HEADER + "".join(lines))
    result = lane.aggregate(month="2025-04", until="2025-06")
    assert result.figures.revenue == Decimal(15)
    assert result.previous is not None
    assert (result.previous_month, result.previous.revenue) == ("2025-01", Decimal(6))
    assert result.revenue_change_percent == Decimal("150.00")


def test_everything_has_nothing_before_it(lane: CpuLane) -> None:
    lane.process(SALES_HEADER + "1,2024-12-31,sul,a,1,30.00\n2,2025-01-01,norte,a,1,40.00\n")
    result = lane.aggregate()
    assert result.figures.rows == 2
    assert (result.previous_month, result.previous) == (None, None)


def test_change_from_nothing_is_not_a_number(lane: CpuLane) -> None:
    lane.process(SALES_HEADER + "1,2025-01-01,sul,a,1,40.00\n")
    assert lane.aggregate(month="2025-01").revenue_change_percent is None


def test_regions_are_compared_without_case_or_spaces(lane: CpuLane) -> None:
    lane.process(SALES_HEADER + "1,2025-01-01, SUDESTE ,a,1,1.00\n2,2025-01-01,Sudeste,a,1,1.00\n")
    assert lane.aggregate(region="SudEste").figures.rows == 2
    assert lane.aggregate(region="o'hara").figures.rows == 0


def test_equal_products_are_ordered_by_name(lane: CpuLane) -> None:
    names = ["g", "b", "f", "a", "e", "c", "d"]
    lane.process(SALES_HEADER + "".join(f"1,2025-01-01,sul,{name},1,1.00\n" for name in names))
    assert lane.aggregate().top_products == [
        ProductSales(product=name, quantity=1, revenue=Decimal("1.00")) for name in "abcde"
    ]
