import csv
import io

import pytest

from unit.worker_cpu.cpu_lane import SALES_HEADER, CpuLane


@pytest.mark.parametrize("report_type", ["vendas", "vendas_mensal"])
def test_report_is_the_same_bytes_twice(lane: CpuLane, report_type: str) -> None:
    lane.generate("vendas_2025.csv", 2_000)
    for job in ("first", "second"):
        lane.report(job, report_type=report_type)
    for name in ("report.html", "report.txt", "chart.png", "sales.csv"):
        assert lane.artifact(name, "first") == lane.artifact(name, "second")


def test_monthly_report_shows_the_newest_month_beside_the_one_before(lane: CpuLane) -> None:
    lane.process(
        SALES_HEADER
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
    lane.process(SALES_HEADER + "1,2025-01-10,=hyperlink(a1),Mouse,1,10.00\n")
    result = lane.report(report_type="vendas_mensal")
    table = lane.artifact(result.table, "report").decode("utf-8-sig")
    _, row = csv.reader(io.StringIO(table), delimiter=";")
    assert row == ["'=hyperlink(a1)", "1", "1", "10,00", "10,00"]


def test_sales_report_has_a_row_per_month(lane: CpuLane) -> None:
    lane.process(SALES_HEADER + "1,2025-01-10,sul,Mouse,1,10.00\n2,2025-03-11,sul,Mouse,1,20.00\n")
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
    lane.process(SALES_HEADER + "1,2025-01-10,sul,Mouse,1,10.00\n")
    result = lane.report(report_type="vendas_mensal", month="2025-02")
    assert "Não há vendas neste período" in lane.artifact(result.text, "report").decode()
    assert "-100,00%" in lane.artifact(result.html, "report").decode()
