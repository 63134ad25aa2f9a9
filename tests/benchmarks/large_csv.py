"""Measure process_csv and aggregate_sales: `python -m benchmarks.large_csv [ROWS] [CSV]` in tests.

Each measurement is a process of its own, so that its peak memory is its own too. Sums are checked
against Python's csv and decimal; the bare DuckDB COPY of the same file is the yardstick.
"""

# ruff: noqa: T201 - a script, which prints

import csv
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import duckdb

from benchmarks.make_sales_csv import DEFAULT_ROWS, make_sales_csv
from contracts.implementation import Job
from contracts.schemas import AggregateSalesArgs, ProcessCsvArgs
from contracts.storage import open_storage, upload_key
from worker_cpu.settings import WorkerCpuSettings
from worker_cpu.tasks import CpuTasks

REGION = "sudeste"
MONTH = "2025-01"
FILENAME = "vendas_2025.csv"


def main(rows: int, given: Path | None) -> None:
    """Run all measurements and print them."""
    with tempfile.TemporaryDirectory(prefix="twinlane-bench-") as name:
        folder = Path(name)
        source = given or folder / FILENAME
        if given is None:
            make_sales_csv(source, rows)
        size_mb = source.stat().st_size / 1e6
        print(f"{source.name}: {size_mb:,.0f} MB")
        bare = measured("copy", source, folder)
        process = measured("process", source, folder)
        aggregate = measured("aggregate", source, folder)
        expected = python_sums(source)
        if aggregate["answer"] != expected:
            raise SystemExit(f"wrong: {aggregate['answer']}, Python says {expected}")
        share = bare["seconds"] / process["seconds"]
        print(f"sums equal Python's: {expected}")
        print(f"process_csv runs at {share:.2f} x the speed of the bare COPY")
        print(f"its CPU time is {process['cpu'] / bare['cpu']:.2f} x that of the bare COPY")


def measured(what: str, source: Path, folder: Path) -> dict[str, Any]:
    """Run one measurement in a process of its own and print what it took."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.large_csv",
        "--only",
        what,
        str(source),
        str(folder),
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = cast("dict[str, Any]", json.loads(output))
    print(
        f"{what:>10}: {result['seconds']:6.2f} s, {result['cpu']:6.2f} s of CPU,"
        f" peak {result['peak_mb']:5.0f} MB"
    )
    return result


def copy(source: Path, folder: Path) -> object:
    """Convert with DuckDB alone, with the worker's settings."""
    settings = worker_settings(folder)
    limit = f"{settings.duckdb_memory_limit_bytes}B"
    connection = duckdb.connect(config={"threads": settings.cpu_threads, "memory_limit": limit})
    target = folder / "bare.parquet"
    connection.execute(f"COPY (FROM '{source}') TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
    return None


def process(source: Path, folder: Path) -> object:
    """Run the task as the worker does; the upload is linked, not copied."""
    settings = worker_settings(folder)
    storage = open_storage(settings.storage_url)
    file_id = f"sha256:{hashlib.sha256(source.name.encode()).hexdigest()}"
    upload = folder / "storage" / upload_key(file_id)
    upload.parent.mkdir(parents=True, exist_ok=True)
    upload.symlink_to(source)
    args = ProcessCsvArgs(filename=FILENAME, file_id=file_id)
    result = CpuTasks(settings, storage).process_csv(args, silent_job("process"))
    return result.model_dump(mode="json", include={"rows_in", "rows_clean", "rows_quarantined"})


def aggregate(source: Path, folder: Path) -> object:  # noqa: ARG001 - as the others
    """Sum up one region and month of what process() imported."""
    settings = worker_settings(folder)
    tasks = CpuTasks(settings, open_storage(settings.storage_url))
    args = AggregateSalesArgs(region=REGION, month=MONTH)
    figures = tasks.aggregate_sales(args, silent_job("aggregate")).figures
    return [figures.rows, figures.quantity, str(figures.revenue)]


def python_sums(source: Path) -> list[int | str]:
    """Return rows, quantity and revenue of the region and month, by csv and decimal."""
    count = quantity = 0
    revenue = Decimal(0)
    with source.open(newline="") as file:
        for sale in csv.DictReader(file):
            if sale["region"] == REGION and sale["date"].startswith(MONTH):
                count += 1
                quantity += int(sale["quantity"])
                revenue += int(sale["quantity"]) * Decimal(sale["unit_price"])
    return [count, quantity, str(revenue)]


def worker_settings(folder: Path) -> WorkerCpuSettings:
    """Return the worker's defaults, with everything below `folder`."""
    return WorkerCpuSettings.model_validate(
        {
            "broker_url": "amqp://unused",
            "result_url": "redis://unused",
            "storage_url": f"file://{folder}/storage",
            "scratch_folder": folder / "scratch",
        }
    )


def silent_job(job_id: str) -> Job:
    """Return a job whose progress nobody hears."""
    return cast("Job", SimpleNamespace(id=job_id, report=lambda *_: None))


def only(what: Callable[[Path, Path], object], source: Path, folder: Path) -> None:
    """Do one thing and print, as JSON, what it answered and took."""
    started = time.monotonic()
    answer = what(source, folder)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "answer": answer,
                "seconds": time.monotonic() - started,
                "cpu": usage.ru_utime + usage.ru_stime,
                "peak_mb": usage.ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--only"]:
        chosen = {"copy": copy, "process": process, "aggregate": aggregate}[sys.argv[2]]
        only(chosen, Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        wanted = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_ROWS
        main(wanted, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
