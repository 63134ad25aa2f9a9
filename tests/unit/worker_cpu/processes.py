"""What tests run in other processes."""

from contextlib import suppress
from pathlib import Path

import duckdb

from contracts.storage import open_storage
from worker_cpu.database import PARQUET, Database
from worker_cpu.sales.dataset import MonthFile, SalesDataset

IMPORTS_EACH = 5


def import_repeatedly(storage_url: str, scratch: str, source: str) -> None:
    """Replace the rows of `source` IMPORTS_EACH times."""
    dataset = SalesDataset(open_storage(storage_url))
    for number in range(IMPORTS_EACH):
        path = Path(scratch) / f"{source}-{number}"
        path.write_text(f"{source} {number}")
        dataset.replace(source, {"2025-01": MonthFile(path, rows=number)})


def fail_to_copy(scratch: str, times: int) -> None:
    """Begin to write a Parquet file and fail after its first row group, so many times."""
    row = "i, CASE WHEN i = 130000 THEN error('bad') ELSE 'good' END"
    rows = f"SELECT {row} FROM range(200000) AS numbers(i)"  # noqa: S608 - a constant
    copy = f"COPY ({rows}) TO '{scratch}/rows.parquet' ({PARQUET})"
    with Database(memory_limit_bytes=128 * 1024 * 1024).connect(Path(scratch)) as connection:
        for _ in range(times):
            with suppress(duckdb.InvalidInputException):
                connection.execute(copy)
