"""A report as files: HTML, text, chart and table."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from jinja2 import PackageLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from worker_cpu.formula_escaping import escape_cell
from worker_cpu.reports import formats
from worker_cpu.reports.chart import draw_bars, draw_message
from worker_cpu.reports.report import Report, Row

HTML: Final = "report.html"
TEXT: Final = "report.txt"
CHART: Final = "chart.png"
TABLE: Final = "sales.csv"


def render_report(report: Report, folder: Path) -> None:
    """Write HTML, TEXT, CHART and TABLE into `folder`."""
    templates = _templates()
    for name in (HTML, TEXT):
        text = templates.get_template(f"{name}.j2").render(report=report)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    if report.bars:
        draw_bars(report.chart_title, report.bars, folder / CHART)
    else:
        message = "Ainda não há vendas" if report.dataset_is_empty else "Sem vendas no período"
        draw_message(report.chart_title, message, folder / CHART)
    _write_table(report.label, report.rows, folder / TABLE)


def _templates() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        loader=PackageLoader("worker_cpu.reports"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": formats.number,
        "money": formats.money,
        "percent": formats.percent,
        "month_name": formats.month_name,
    }
    return environment


def _write_table(label: str, rows: Iterable[Row], target: Path) -> None:
    """Write a CSV as Brazilian spreadsheets open it: semicolons, decimal commas, a BOM."""
    with target.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file, delimiter=";", lineterminator="\r\n")
        table.writerow([label, "Vendas", "Quantidade", "Receita", "Ticket médio"])
        for row in rows:
            figures = row.figures
            money = map(formats.plain_money, (figures.revenue, figures.average_ticket))
            table.writerow([escape_cell(row.label), figures.rows, figures.quantity, *money])
