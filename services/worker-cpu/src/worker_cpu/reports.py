"""The reports that are mailed: HTML, text, chart and table, in Brazilian Portuguese."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

from jinja2 import PackageLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from contracts.schemas import ALL_REGIONS, ProductSales, ReportType, SalesFigures
from worker_cpu import brazilian
from worker_cpu.charts import Bar, draw_bars, draw_message
from worker_cpu.months import shift_month
from worker_cpu.sales import SalesReader, change_percent

HTML: Final = "report.html"
TEXT: Final = "report.txt"
CHART: Final = "chart.png"
TABLE: Final = "sales.csv"

_TITLES: Final[Mapping[ReportType, str]] = {
    "vendas": "Relatório de vendas",
    "vendas_mensal": "Relatório mensal de vendas",
}
_CHART_TITLES: Final[Mapping[ReportType, str]] = {
    "vendas": "Receita por mês",
    "vendas_mensal": "Receita por dia",
}
_BREAKDOWNS: Final[Mapping[ReportType, tuple[str, str]]] = {
    # the heading of the table's first column, and the SQL that it is grouped by
    "vendas": ("Mês", "strftime(date, '%Y-%m')"),
    "vendas_mensal": ("Região", "region"),
}


@dataclass(frozen=True)
class Row:
    """A row of the report's table."""

    label: str
    figures: SalesFigures


@dataclass(frozen=True)
class Report:
    """All that a report says; the files are rendered from it."""

    type: ReportType
    title: str
    subject: str
    month: str | None
    period: str
    region: str
    figures: SalesFigures
    previous_month: str | None = None
    previous: SalesFigures | None = None
    change: Decimal | None = None
    products: Sequence[ProductSales] = ()
    label: str = ""
    rows: Sequence[Row] = ()
    bars: Sequence[Bar] = field(default=(), repr=False)
    dataset_is_empty: bool = False

    @property
    def chart_title(self) -> str:
        """The title of the chart."""
        return f"{_CHART_TITLES[self.type]} · {self.period}"

    @property
    def chart_alt(self) -> str:
        """What the chart shows, for those who do not see it."""
        if not self.bars:
            return f"Gráfico vazio: não há vendas em {self.period}."
        best = max(self.bars, key=lambda bar: bar.value)
        return (
            f"Gráfico de colunas: {_CHART_TITLES[self.type].lower()}, {self.period}."
            f" Total de {brazilian.money(self.figures.revenue)}; a maior coluna é {best.label}."
        )


def compose_report(
    reader: SalesReader, report_type: ReportType, region: str, month: str | None
) -> Report:
    """Collect the figures of a report.

    `vendas` shows all months; `vendas_mensal` one, by default the newest that is stored, beside
    the month before.
    """
    stored = reader.snapshot.months
    title = _TITLES[report_type]
    where = "Todas as regiões" if region == ALL_REGIONS else f"Região {region}"
    if report_type == "vendas":
        months = stored
        month = None
        period = _span(stored)
    else:
        month = month or (stored[-1] if stored else None)
        months = [month] if month else []
        period = brazilian.month_name(month) if month else "sem período"
    figures = reader.figures(region, months)
    before = shift_month(month, -1) if month else None
    previous = reader.figures(region, [before]) if before else None
    label, grouping = _BREAKDOWNS[report_type]
    by_day = "date" if report_type == "vendas_mensal" else grouping
    return Report(
        type=report_type,
        title=title,
        subject=f"{title}: {period} · {where}" if stored else f"{title}: ainda sem vendas",
        month=month,
        period=period,
        region=where,
        figures=figures,
        previous_month=before,
        previous=previous,
        change=change_percent(previous, figures),
        products=reader.top_products(region, months),
        label=label,
        rows=[Row(key, sums) for key, sums in reader.grouped(grouping, region, months)],
        bars=[
            Bar(_bar_label(key), float(sums.revenue))
            for key, sums in reader.grouped(by_day, region, months)
        ],
        dataset_is_empty=not stored,
    )


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
        loader=PackageLoader("worker_cpu"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": brazilian.number,
        "money": brazilian.money,
        "percent": brazilian.percent,
        "month_name": brazilian.month_name,
    }
    return environment


def _write_table(label: str, rows: Iterable[Row], target: Path) -> None:
    """Write a CSV as Brazilian spreadsheets open it: semicolons, decimal commas, a BOM."""
    with target.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file, delimiter=";", lineterminator="\r\n")
        table.writerow([label, "Vendas", "Quantidade", "Receita", "Ticket médio"])
        for row in rows:
            figures = row.figures
            money = [_plain(figures.revenue), _plain(figures.average_ticket)]
            table.writerow([_cell(row.label), figures.rows, figures.quantity, *money])


def _plain(value: Decimal | None) -> str:
    return "" if value is None else f"{value:.2f}".replace(".", ",")


def _cell(text: str) -> str:
    # A spreadsheet would run a text that begins so as a formula.
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _span(months: Sequence[str]) -> str:
    if not months:
        return "sem período"
    first, last = brazilian.month_name(months[0]), brazilian.month_name(months[-1])
    return first if first == last else f"{first} a {last}"


def _bar_label(key: str) -> str:
    """Name a column by its day (2025-01-31: 31) or by its month (2025-01: jan/25)."""
    return key[8:] if len(key) > len("2025-01") else brazilian.short_month(key)
