"""The content of a report, in Brazilian Portuguese: figures, titles, the bars of its chart."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from twinlane_tasks.reports import ReportType
from twinlane_tasks.sales import ALL_REGIONS, ProductSales, SalesFigures
from worker_cpu.reports import formats
from worker_cpu.reports.chart import Bar
from worker_cpu.sales.figures import SalesReader, change_percent
from worker_cpu.sales.months import days_in, months_between, shift_month

_MONTH: Final = re.compile(r"\d{4}-\d{2}")

_TITLES: Final[Mapping[ReportType, str]] = {
    "vendas": "Relatório de vendas",
    "vendas_mensal": "Relatório mensal de vendas",
}
_CHART_TITLES: Final[Mapping[ReportType, str]] = {
    "vendas": "Receita ao longo do tempo",
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

    @property
    def name(self) -> str:
        """The label, but a month by its name."""
        is_month = _MONTH.fullmatch(self.label)
        return formats.month_name(self.label) if is_month else self.label


@dataclass(frozen=True)
class Report:
    """The content of a report, from which its files are rendered."""

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
        name = _CHART_TITLES[self.type]
        return f"{name} · {self.period}" if self.period else name

    @property
    def chart_alt(self) -> str:
        """The chart in words, for those who do not see it."""
        if not self.bars:
            return f"Gráfico vazio: sem vendas. {self.chart_title}."
        best = max(self.bars, key=lambda bar: bar.value)
        return (
            f"Gráfico de colunas: {_CHART_TITLES[self.type].lower()}, {self.period}."
            f" Total de {formats.money(self.figures.revenue)}; a maior coluna é {best.label}."
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
        months, month = stored, None
    else:
        months = [month] if month else stored[-1:]
        month = months[0] if months else None
    period = _period(months)
    figures = reader.figures(region, months)
    before = shift_month(month, -1) if month else None
    previous = reader.figures(region, [before]) if before else None
    label, grouping = _BREAKDOWNS[report_type]
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
        bars=_bars(reader, region, months) if figures.rows else (),
        dataset_is_empty=not stored,
    )


def _period(months: Sequence[str]) -> str:
    """Name the first and the last month, or the only one."""
    if not months:
        return ""
    first, last = formats.month_name(months[0]), formats.month_name(months[-1])
    return first if first == last else f"{first} a {last}"


def _bars(reader: SalesReader, region: str, months: Sequence[str]) -> list[Bar]:
    """Return a column per month, or per day of a single one; those without sales are empty."""
    if len(months) == 1:
        names = {f"{day:02d}": f"{day:02d}" for day in range(1, days_in(months[0]) + 1)}
        found = reader.grouped("strftime(date, '%d')", region, months)
    else:
        names = {
            month: formats.short_month(month) for month in months_between(months[0], months[-1])
        }
        found = reader.grouped("strftime(date, '%Y-%m')", region, months)
    revenue = {key: float(sums.revenue) for key, sums in found}
    return [Bar(name, revenue.get(key, 0.0)) for key, name in names.items()]
