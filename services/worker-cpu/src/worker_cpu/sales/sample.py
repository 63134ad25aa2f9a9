"""Generated, plausible sales: the same rows for the same file name and number of rows."""

import hashlib
import re
from pathlib import Path
from typing import Final

import duckdb

from worker_cpu.database import execute_watched, quoted
from worker_cpu.progress import Progress

_YEAR: Final = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)")
_DEFAULT_YEAR: Final = 2025
_REGIONS: Final = (  # and their shares of the sales, in percent
    ("sudeste", 42),
    ("sul", 20),
    ("nordeste", 19),
    ("centro-oeste", 11),
    ("norte", 8),
)
_PRODUCTS: Final = (  # share in percent, usual price in cents, largest quantity
    ("Notebook 14", 6, 389_900, 2),
    ("Smartphone 5G", 10, 219_900, 2),
    ("Monitor 27", 7, 129_900, 3),
    ("Cadeira ergonômica", 6, 89_900, 4),
    ("Impressora laser", 4, 109_900, 2),
    ("Teclado mecânico", 10, 34_900, 5),
    ("Mouse sem fio", 15, 8_990, 8),
    ("Headset", 10, 24_900, 4),
    ("Webcam Full HD", 7, 19_900, 4),
    ("SSD 1 TB", 9, 44_900, 5),
    ("Roteador Wi-Fi 6", 6, 39_900, 3),
    ("Cabo USB-C", 10, 3_990, 10),
)


def sample_year(filename: str) -> int:
    """Return the year that a file's name mentions, or 2025."""
    found = _YEAR.search(filename)
    return int(found[1]) if found else _DEFAULT_YEAR


def write_sample(
    connection: duckdb.DuckDBPyConnection,
    filename: str,
    num_rows: int,
    target: Path,
    progress: Progress,
) -> None:
    """Write `num_rows` sales of the year in `filename` to the CSV `target`, in bounded memory."""

    def watch(share: float) -> None:
        progress(round(share * num_rows), num_rows, "rows", "generating a sample")

    execute_watched(
        connection,
        f"COPY ({_sales(filename, num_rows)}) TO {quoted(target)} (FORMAT csv, HEADER)",
        watch,
    )


def _sales(filename: str, num_rows: int) -> str:
    digest = hashlib.sha256(f"{filename}\n{num_rows}".encode()).digest()
    seed = int.from_bytes(digest[:4])
    first_day = f"DATE '{sample_year(filename)}-01-01'"
    year_end = f"DATE '{sample_year(filename) + 1}-01-01'"
    # random() would differ from run to run; each of these hashes is a random number instead.
    return f"""
        SELECT
            sale_id,
            {first_day} + (hash(sale_id, {seed}, 'date') % ({year_end} - {first_day}))::INTEGER
                AS date,
            {_region_choices()}[1 + (hash(sale_id, {seed}, 'region') % 100)::INTEGER] AS region,
            product[1] AS product,
            1 + (hash(sale_id, {seed}, 'quantity') % product[4]::BIGINT)::INTEGER AS quantity,
            (product[3]::BIGINT * (90 + hash(sale_id, {seed}, 'price') % 21) // 100)
                ::DECIMAL(18,0) * 0.01 AS unit_price
        FROM (
            SELECT
                sale_id,
                {_product_choices()}[1 + (hash(sale_id, {seed}, 'product') % 100)::INTEGER]
                    AS product
            FROM range(1, {num_rows} + 1) AS numbers(sale_id)
        )
    """  # noqa: S608 - numbers and constants


def _region_choices() -> str:
    """Return a list of 100 regions, each as often as its share."""
    return "[" + ", ".join(quoted(name) for name, share in _REGIONS for _ in range(share)) + "]"


def _product_choices() -> str:
    """Return a list of 100 products, each as often as its share."""
    choices = [
        "[" + ", ".join(quoted(str(part)) for part in product) + "]"
        for product in _PRODUCTS
        for _ in range(product[1])
    ]
    return "[" + ", ".join(choices) + "]"
