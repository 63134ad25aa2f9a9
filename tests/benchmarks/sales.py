"""Imports and aggregates of sales as the worker does them, and what bare engines do instead.

`python -m benchmarks.sales WHAT SOURCE FOLDER THREADS` does one import and reports what it took.
"""

import csv
import hashlib
import sys
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast

import duckdb

from benchmarks.peers.cost import report
from contracts.storage import open_storage, upload_key
from twinlane_sdk.job import Job
from twinlane_tasks.csv import ProcessCsvArgs
from worker_cpu.settings import WorkerCpuSettings
from worker_cpu.tasks import CpuTasks

PART_ROWS: Final = 1_000_000
"""What Python's csv is given to read: all would take minutes."""


def process(source: Path, folder: Path, threads: int) -> int:
    """Do what a job of `cpu.process_csv` does, and return the number of clean rows.

    Raises:
        ValueError: a row is neither clean nor in quarantine.

    """
    file_id = f"sha256:{hashlib.sha256(source.name.encode()).hexdigest()}"
    upload = folder / "storage" / upload_key(file_id)
    upload.parent.mkdir(parents=True, exist_ok=True)
    upload.symlink_to(source)  # as if it had been uploaded
    args = ProcessCsvArgs(filename=source.name, file_id=file_id)
    result = cpu_tasks(folder, threads).process_csv(args, silent_job(source.stem))
    if result.rows_in != result.rows_clean + result.rows_quarantined:
        raise ValueError(f"rows were lost: {result}")
    return result.rows_clean


def copy(source: Path, folder: Path, threads: int) -> int:
    """Convert with DuckDB alone, which has the memory and threads that the worker gives it."""
    settings = cpu_settings(folder, threads)
    limit = f"{settings.duckdb_memory_limit_bytes}B"
    target = folder / "bare.parquet"
    with duckdb.connect(config={"threads": threads, "memory_limit": limit}) as connection:
        row = connection.execute(
            f"COPY (FROM '{source}') TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
        ).fetchone()
    return int(row[0]) if row else 0


def read(source: Path, folder: Path, threads: int) -> int:  # noqa: ARG001 - as the others
    """Read a part with Python's csv and give each value its type; nothing is written."""
    rows = 0
    with source.open(newline="") as file:
        for sale_id, day, _, _, quantity, price in islice(csv.reader(file), 1, PART_ROWS + 1):
            int(sale_id), date.fromisoformat(day), int(quantity), Decimal(price)
            rows += 1
    return rows


WORK: Final[Mapping[str, Callable[[Path, Path, int], int]]] = {
    "process": process,
    "copy": copy,
    "read": read,
}


def cpu_tasks(folder: Path, threads: int) -> CpuTasks:
    """Return the cpu lane's tasks, which keep everything below `folder`."""
    settings = cpu_settings(folder, threads)
    return CpuTasks(settings, open_storage(settings.storage_url))


def cpu_settings(folder: Path, threads: int) -> WorkerCpuSettings:
    """Return the worker's defaults but for folders and threads."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return WorkerCpuSettings.model_validate(
        {
            "broker_url": "amqp://unused",
            "result_url": "redis://unused",
            "storage_url": (folder / "storage").as_uri(),
            "scratch_folder": scratch,
            "cpu_threads": threads,
        }
    )


def silent_job(job_id: str) -> Job:
    """Return a job whose progress nobody hears."""
    return cast("Job", SimpleNamespace(id=job_id, report=lambda *_: None))


def main(what: str, source: str, folder: str, threads: str) -> None:
    """Do one thing and report it."""
    report(lambda: WORK[what](Path(source), Path(folder), int(threads)))


if __name__ == "__main__":
    main(*sys.argv[1:])
