"""Sums up imported sales by day, region and product, which is all that the dataset keeps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import duckdb

from worker_cpu.database import PARQUET, identifier, one_thread, quoted
from worker_cpu.progress import Progress
from worker_cpu.sales.dataset import MonthFile

_NORMALIZED: Final = {"region": "lower(trim({}))", "product": "trim({})"}
_TOTALS: Final = (
    "count(*) AS sales, sum(quantity)::BIGINT AS quantity,"
    " sum(quantity * unit_price)::DECIMAL(38,2) AS revenue"
)


def total_by_day(
    connection: duckdb.DuckDBPyConnection,
    data: Path,
    columns: Mapping[str, str],
    scratch: Path,
    progress: Progress,
) -> dict[str, MonthFile]:
    """Sum up the sales in the Parquet `data` by day, region and product, into a file per month.

    `columns` maps the sales columns to those of `data`.
    """
    values = ", ".join(
        f"{_NORMALIZED.get(name, '{}').format(identifier(column))} AS {name}"
        for name, column in columns.items()
    )
    connection.execute(
        f"CREATE TEMP TABLE totals AS SELECT date, region, product, {_TOTALS}"  # noqa: S608 - quoted
        f" FROM (SELECT {values} FROM read_parquet({quoted(data)})) GROUP BY ALL"
    )
    months = connection.execute(
        "SELECT strftime(date, '%Y-%m') AS month, sum(sales)::BIGINT FROM totals"
        " GROUP BY month ORDER BY month"
    ).fetchall()
    files = {}
    with one_thread(connection):  # so that equal totals are equal bytes
        for done, (month, rows) in enumerate(months):
            progress(done, len(months), "months", "importing sales")
            path = scratch / f"{month}.parquet"
            _write_month(connection, month, path)
            files[month] = MonthFile(path, rows)
    return files


def _write_month(connection: duckdb.DuckDBPyConnection, month: str, path: Path) -> None:
    first = f"DATE '{month}-01'"
    connection.execute(
        f"COPY (FROM totals WHERE date BETWEEN {first} AND last_day({first})"
        f" ORDER BY date, region, product) TO {quoted(path)} ({PARQUET})"
    )
