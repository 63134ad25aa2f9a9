"""The settings of the cpu worker, on top of those that every service shares."""

import os
import tempfile
from pathlib import Path

from pydantic import Field

from contracts.settings import SharedSettings

MIB = 1024 * 1024


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0))


class WorkerCpuSettings(SharedSettings):
    """Read from the environment, once, by main.py."""

    cpu_concurrency: int = Field(
        default_factory=_usable_cores, ge=1, description="Jobs at the same time: one process each."
    )
    cpu_nice: int = Field(
        default=10,
        ge=0,
        le=19,
        description="Niceness of the processes that run jobs.",
    )
    cpu_threads: int = Field(default=1, ge=1, description="Threads of DuckDB within one job.")
    duckdb_memory_limit_bytes: int = Field(
        default=256 * MIB, ge=64 * MIB, description="Above it, DuckDB spills to the scratch folder."
    )
    scratch_folder: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()),
        description="Where jobs keep their temporary files; they are removed with the job.",
    )
    max_csv_bytes: int = Field(
        default=32 * 1024 * MIB, ge=1, description="Largest CSV, counted after decompression."
    )
    max_csv_columns: int = Field(default=500, ge=1, description="Most columns of a CSV.")
    sum_delay_seconds: float = Field(
        default=10.0, ge=0, description="Simulated processing time of a sum."
    )
    fault_rate: float = Field(
        default=0.0, ge=0, le=1, description="Share of CSV attempts that fail, as a demonstration."
    )
    worker_name: str | None = Field(
        default=None, pattern=r"^[\w.-]+$", description="By default made of lane and process id."
    )
    cancel_grace_seconds: float = Field(
        default=10,
        ge=0,
        description="Time for a cancelled job before its process is killed.",
    )
    heartbeat_file: Path | None = Field(
        default=None, description="Touched while the worker is connected to the broker."
    )
