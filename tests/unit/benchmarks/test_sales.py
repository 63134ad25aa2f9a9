from pathlib import Path

import duckdb

from benchmarks.make_sales_csv import make_sales_csv
from benchmarks.measures.aggregates import joined_csv
from benchmarks.sales import copy, process, read

ROWS = 500


def test_every_side_reads_every_row(tmp_path: Path) -> None:
    source = tmp_path / "vendas_2025.csv"
    make_sales_csv(source, ROWS)

    found = [work(source, tmp_path, 1) for work in (process, copy, read)]

    assert found == [ROWS, ROWS, ROWS]


def test_bad_lines_are_not_among_the_rows_of_the_import(tmp_path: Path) -> None:
    source = tmp_path / "vendas_2025.csv"
    make_sales_csv(source, ROWS)
    with source.open("a") as file:
        file.write("1,2025-01-01,sul,Headset,dois,10.00\n1,2025-01-01\n")

    assert process(source, tmp_path, 1) == ROWS


def test_joined_csv_has_one_head_and_every_row(tmp_path: Path) -> None:
    sources = [tmp_path / f"vendas_{year}.csv" for year in (2025, 2026)]
    for source in sources:
        make_sales_csv(source, ROWS)

    joined = joined_csv(tmp_path / "joined.csv", sources)

    sales = duckdb.read_csv(joined, dtype={"sale_id": "BIGINT"})
    assert len(sales) == 2 * ROWS
