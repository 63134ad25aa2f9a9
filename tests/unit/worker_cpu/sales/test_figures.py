import csv
import io
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

import pytest

from contracts.schemas import AggregateSalesResult, ProductSales
from unit.worker_cpu.cpu_lane import CpuLane
from worker_cpu.sales.dataset import SalesDataset

HEADER = "sale_id,date,region,product,quantity,unit_price\n"
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
    lane.process(HEADER + "1,2025-01-01,sul,a,3,0.10\n2,2025-01-02,sul,a,1,9999999999999999.99\n")
    assert lane.aggregate().figures.revenue == Decimal("10000000000000000.29")


def test_average_ticket_is_rounded_half_up(lane: CpuLane) -> None:
    lane.process(HEADER + "1,2025-01-01,sul,a,1,0.05\n2,2025-01-01,sul,a,1,0.00\n")
    assert lane.aggregate().figures.average_ticket == Decimal("0.03")


def test_no_data_is_zero_without_an_average(lane: CpuLane) -> None:
    result = lane.aggregate(region="sul", month="2025-01")
    assert sums(result) == NOTHING
    assert result.top_products == []
    assert result.revenue_change_percent is None
    assert sums(lane.aggregate()) == NOTHING


def test_january_is_compared_with_december_of_the_year_before(lane: CpuLane) -> None:
    lane.process(HEADER + "1,2024-12-31,sul,a,1,30.00\n2,2025-01-01,sul,a,1,40.00\n")
    result = lane.aggregate(region="sul", month="2025-01")
    assert result.previous_month == "2024-12"
    assert result.previous is not None
    assert result.previous.revenue == Decimal("30.00")
    assert result.revenue_change_percent == Decimal("33.33")


def test_range_is_compared_with_as_many_months_before(lane: CpuLane) -> None:
    lines = [f"{month},2025-{month:02d}-15,sul,a,1,{month}.00\n" for month in range(1, 7)]
    lane.process(HEADER + "".join(lines))
    result = lane.aggregate(month="2025-04", until="2025-06")
    assert result.figures.revenue == Decimal(15)
    assert result.previous is not None
    assert (result.previous_month, result.previous.revenue) == ("2025-01", Decimal(6))
    assert result.revenue_change_percent == Decimal("150.00")


def test_everything_has_nothing_before_it(lane: CpuLane) -> None:
    lane.process(HEADER + "1,2024-12-31,sul,a,1,30.00\n2,2025-01-01,norte,a,1,40.00\n")
    result = lane.aggregate()
    assert result.figures.rows == 2
    assert (result.previous_month, result.previous) == (None, None)


def test_change_from_nothing_is_not_a_number(lane: CpuLane) -> None:
    lane.process(HEADER + "1,2025-01-01,sul,a,1,40.00\n")
    assert lane.aggregate(month="2025-01").revenue_change_percent is None


def test_regions_are_compared_without_case_or_spaces(lane: CpuLane) -> None:
    lane.process(HEADER + "1,2025-01-01, SUDESTE ,a,1,1.00\n2,2025-01-01,Sudeste,a,1,1.00\n")
    assert lane.aggregate(region="SudEste").figures.rows == 2
    assert lane.aggregate(region="o'hara").figures.rows == 0


def test_equal_products_are_ordered_by_name(lane: CpuLane) -> None:
    names = ["g", "b", "f", "a", "e", "c", "d"]
    lane.process(HEADER + "".join(f"1,2025-01-01,sul,{name},1,1.00\n" for name in names))
    assert lane.aggregate().top_products == [
        ProductSales(product=name, quantity=1, revenue=Decimal("1.00")) for name in "abcde"
    ]


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


def test_sales_that_do_not_fit_their_types_are_quarantined(lane: CpuLane) -> None:
    bad = [
        "x,2025-01-01,sul,a,1,1.00",
        "1,2025-13-01,sul,a,1,1.00",
        "2,2025-01-01,,a,1,1.00",
        "3,2025-01-01,sul,  ,1,1.00",
        "4,2025-01-01,sul,a,1.5,1.00",
        "5,2025-01-01,sul,a,3000000000,1.00",
        "6,2025-01-01,sul,a,1,1.999",
        "7,2025-01-01,sul,a,1,",
        "8,2025-01-01,sul,a,1,1e2",
        "99999999999999999999,2025-01-01,sul,a,1,1.00",
    ]
    good = [
        "10,2025-01-01,sul,a,-1,1.5",
        "007,2025-01-01,sul,a,+2,1.500",
        "12,2025-01-01,sul,a,1,.5",
    ]
    result = lane.process(HEADER + "\n".join(bad + good) + "\n")
    assert [line.column for line in result.quarantine_preview] == [
        *("sale_id", "date", "region", "product", "quantity", "quantity"),
        *("unit_price", "unit_price", "unit_price", "sale_id"),
    ]
    assert (result.rows_in, result.rows_clean, result.rows_quarantined) == (13, 3, 10)
    assert lane.aggregate().figures.revenue == Decimal("2.00")


def test_new_file_of_a_name_replaces_the_rows_of_the_old_one(lane: CpuLane) -> None:
    lane.process(HEADER + "1,2025-01-01,sul,a,1,1.00\n2,2025-02-01,sul,a,1,2.00\n", "loja.csv")
    lane.process(HEADER + "1,2025-01-01,sul,a,1,100.00\n", "outra.csv")
    assert lane.aggregate().figures.revenue == Decimal("103.00")
    result = lane.process(HEADER + "1,2025-02-01,sul,a,1,20.00\n", "loja.csv")
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
    lane.process(HEADER + "1,2025-01-01,sul,a,1,1.00\n")
    lane.process(HEADER)
    assert sums(lane.aggregate()) == NOTHING


def test_file_of_nothing_but_faults_removes_nothing(lane: CpuLane) -> None:
    lane.process(HEADER + "1,2025-01-01,sul,a,1,1.00\n")
    assert lane.process(HEADER + "broken\n").sales is None
    assert lane.aggregate().figures.rows == 1


def test_many_months_are_imported_each_as_one_part(lane: CpuLane) -> None:
    lines = [f"{n},{1950 + n // 12}-{n % 12 + 1:02d}-01,sul,a,1,1.00\n" for n in range(250)]
    result = lane.process(HEADER + "".join(lines))
    assert result.sales is not None
    assert len(result.sales.months) == 250
    assert lane.aggregate().figures.rows == 250
    assert lane.aggregate(month="1960-05").figures.rows == 1


@pytest.mark.parametrize("report_type", ["vendas", "vendas_mensal"])
def test_report_is_the_same_bytes_twice(lane: CpuLane, report_type: str) -> None:
    lane.generate("vendas_2025.csv", 2_000)
    for job in ("first", "second"):
        lane.report(job, report_type=report_type)
    for name in ("report.html", "report.txt", "chart.png", "sales.csv"):
        assert lane.artifact(name, "first") == lane.artifact(name, "second")


def test_monthly_report_shows_the_newest_month_beside_the_one_before(lane: CpuLane) -> None:
    lane.process(
        HEADER
        + "1,2025-01-10,sul,Mouse,1,1000.00\n2,2025-02-11,sul,<b>Teclado</b>,2,617.28\n"
        + "3,2025-02-12,norte,Mouse,1,0.44\n"
    )
    result = lane.report(report_type="vendas_mensal")
    assert (result.month, result.rows) == ("2025-02", 2)
    assert result.subject == ("Relatório mensal de vendas: fevereiro de 2025 · Todas as regiões")
    html = lane.artifact(result.html, "report").decode()
    text = lane.artifact(result.text, "report").decode()
    for page in (html, text):
        assert "R$ 1.235,00" in page
        assert "+23,50%" in page
        assert "janeiro de 2025" in page
    assert 'src="cid:chart"' in html
    assert f'alt="{result.chart_alt}"' in html
    assert "&lt;b&gt;Teclado&lt;/b&gt;" in html
    assert "<b>Teclado</b>" in text
    assert lane.artifact(result.chart, "report").startswith(b"\x89PNG")
    table = lane.artifact(result.table, "report").decode("utf-8-sig")
    assert list(csv.reader(io.StringIO(table), delimiter=";")) == [
        ["Região", "Vendas", "Quantidade", "Receita", "Ticket médio"],
        ["norte", "1", "1", "0,44", "0,44"],
        ["sul", "1", "2", "1234,56", "1234,56"],
    ]


def test_region_that_looks_like_a_formula_is_none_in_the_table(lane: CpuLane) -> None:
    lane.process(HEADER + "1,2025-01-10,=hyperlink(a1),Mouse,1,10.00\n")
    result = lane.report(report_type="vendas_mensal")
    table = lane.artifact(result.table, "report").decode("utf-8-sig")
    _, row = csv.reader(io.StringIO(table), delimiter=";")
    assert row == ["'=hyperlink(a1)", "1", "1", "10,00", "10,00"]


def test_sales_report_has_a_row_per_month(lane: CpuLane) -> None:
    lane.process(HEADER + "1,2025-01-10,sul,Mouse,1,10.00\n2,2025-03-11,sul,Mouse,1,20.00\n")
    result = lane.report(report_type="vendas", region="sul")
    assert result.subject == ("Relatório de vendas: janeiro de 2025 a março de 2025 · Região sul")
    html = lane.artifact(result.html, "report").decode()
    assert "janeiro de 2025</td>" in html
    assert "março de 2025</td>" in html


@pytest.mark.parametrize("report_type", ["vendas", "vendas_mensal"])
def test_report_without_any_sales_says_how_to_upload_them(lane: CpuLane, report_type: str) -> None:
    result = lane.report(report_type=report_type)
    assert (result.rows, result.month) == (0, None)
    for name in (result.html, result.text):
        page = lane.artifact(name, "report").decode()
        assert "Ainda não há vendas armazenadas." in page
        assert "POST /v1/files" in page


def test_report_of_a_month_without_sales_says_so(lane: CpuLane) -> None:
    lane.process(HEADER + "1,2025-01-10,sul,Mouse,1,10.00\n")
    result = lane.report(report_type="vendas_mensal", month="2025-02")
    assert "Não há vendas neste período" in lane.artifact(result.text, "report").decode()
    assert "-100,00%" in lane.artifact(result.html, "report").decode()
