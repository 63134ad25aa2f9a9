"""The figures of the stored sales: exact decimals, from the months that are asked for only.

What is stored are totals by day, region and product. Every figure is a sum of them, which takes far
less time than a sum of single sales.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from pathlib import Path
from typing import Final

import duckdb

from twinlane_tasks.sales import ALL_REGIONS, AggregateSalesResult, ProductSales, SalesFigures
from worker_cpu.database import quoted
from worker_cpu.sales.dataset import SalesDataset, Snapshot
from worker_cpu.sales.months import months_between, shift_month

TOP_PRODUCTS: Final = 5

_CENT: Final = Decimal("0.01")
_NO_REVENUE: Final = Decimal("0.00")
_FIGURES: Final = (
    "coalesce(sum(sales), 0)::BIGINT AS rows, coalesce(sum(quantity), 0) AS quantity,"
    " coalesce(sum(revenue), 0)::DECIMAL(38,2) AS revenue"
)
_EMPTY: Final = (
    "(SELECT NULL::DATE AS date, NULL::VARCHAR AS region, NULL::VARCHAR AS product,"
    " NULL::BIGINT AS sales, NULL::BIGINT AS quantity, NULL::DECIMAL(38,2) AS revenue WHERE false)"
)


@dataclass(frozen=True)
class SalesReader:
    """Queries on one snapshot of the stored sales."""

    connection: duckdb.DuckDBPyConnection
    dataset: SalesDataset
    snapshot: Snapshot
    scratch: Path

    def figures(self, region: str, months: Sequence[str]) -> SalesFigures:
        """Sum up the sales of a region (or ALL_REGIONS) in some months."""
        [row] = self._query(f"SELECT {_FIGURES}", region, months)
        return _figures(*row)

    def top_products(
        self, region: str, months: Sequence[str], count: int = TOP_PRODUCTS
    ) -> list[ProductSales]:
        """Return the products of most revenue; of equal ones the first by name."""
        rows = self._query(
            f"SELECT product, {_FIGURES}",
            region,
            months,
            f"GROUP BY product ORDER BY revenue DESC, product LIMIT {count}",
        )
        return [
            ProductSales(product=product, quantity=quantity, revenue=revenue)
            for product, _, quantity, revenue in rows
        ]

    def grouped(
        self, by: str, region: str, months: Sequence[str]
    ) -> list[tuple[str, SalesFigures]]:
        """Sum up by an SQL expression over the sales columns, in its order."""
        rows = self._query(
            f"SELECT ({by})::VARCHAR AS key, {_FIGURES}",
            region,
            months,
            "GROUP BY key ORDER BY key",
        )
        return [(str(key), _figures(*figures)) for key, *figures in rows]

    def _query(
        self, select: str, region: str, months: Sequence[str], rest: str = ""
    ) -> list[tuple[object, ...]]:
        where = "" if region == ALL_REGIONS else "WHERE region = $region"
        parameters = {} if region == ALL_REGIONS else {"region": region.strip().lower()}
        sql = f"{select} FROM {self._table(months)} {where} {rest}"
        return self.connection.execute(sql, parameters).fetchall()

    def _table(self, months: Sequence[str]) -> str:
        files = [
            quoted(self.dataset.fetch(part, self.scratch))
            for part in self.snapshot.parts_of(months)
        ]
        return f"read_parquet([{', '.join(files)}])" if files else _EMPTY


def aggregate_sales(
    reader: SalesReader, region: str, month: str | None, until: str | None
) -> AggregateSalesResult:
    """Sum up one month, a range of months or everything, beside the period just before.

    Everything has no period before. The previous period has as many months as the wanted one, and
    `previous_month` is its first. The average ticket and the change in percent are rounded half up.
    """
    months = months_between(month, until or month) if month else reader.snapshot.months
    figures = reader.figures(region, months)
    before = [shift_month(name, -len(months)) for name in months] if month else []
    previous = reader.figures(region, before) if before else None
    return AggregateSalesResult(
        region=region,
        month=month,
        until=until,
        figures=figures,
        top_products=reader.top_products(region, months),
        previous_month=before[0] if before else None,
        previous=previous,
        revenue_change_percent=change_percent(previous, figures),
    )


def change_percent(before: SalesFigures | None, now: SalesFigures) -> Decimal | None:
    """Return by how many percent the revenue changed; None if there was none before."""
    if before is None or not before.revenue:
        return None
    with localcontext(prec=80, rounding=ROUND_HALF_UP):
        change = (now.revenue - before.revenue) / abs(before.revenue) * 100
        return change.quantize(_CENT)


def _figures(rows: object, quantity: object, revenue: object) -> SalesFigures:
    count = int(str(rows))
    total = Decimal(str(revenue)) if count else _NO_REVENUE
    return SalesFigures(
        rows=count,
        quantity=int(str(quantity)),
        revenue=total,
        average_ticket=_average(total, count),
    )


def _average(revenue: Decimal, rows: int) -> Decimal | None:
    if not rows:
        return None
    with localcontext(prec=80, rounding=ROUND_HALF_UP):
        return (revenue / rows).quantize(_CENT)
