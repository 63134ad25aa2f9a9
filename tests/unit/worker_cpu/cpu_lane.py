"""The tasks of the cpu lane on a real storage, without a broker."""

import csv
import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import duckdb
import obstore
from obstore.store import ObjectStore

from contracts.storage import artifact_key, upload_key
from twinlane_sdk.job import Job
from twinlane_tasks.csv import ProcessCsvArgs, ProcessCsvResult
from twinlane_tasks.reports import RenderReportArgs, RenderReportResult
from twinlane_tasks.sales import AggregateSalesArgs, AggregateSalesResult
from worker_cpu.tasks import CpuTasks

SALES_HEADER = "sale_id,date,region,product,quantity,unit_price\n"


@dataclass
class ReportedJob:
    """What a task sees of its job, and the progress that it has reported."""

    id: str
    reported: list[tuple[int, int | None, str, str | None]] = field(default_factory=list)

    def report(
        self, current: int, total: int | None, unit: str, message: str | None = None
    ) -> None:
        self.reported.append((current, total, unit, message))


@dataclass
class CpuLane:
    """Runs the tasks with the arguments of a message."""

    tasks: CpuTasks
    storage: ObjectStore
    scratch: Path

    def upload(self, content: bytes) -> str:
        file_id = f"sha256:{hashlib.sha256(content).hexdigest()}"
        obstore.put(self.storage, upload_key(file_id), content)
        return file_id

    def process(
        self, content: bytes | str, filename: str = "file.csv", job_id: str = "job"
    ) -> ProcessCsvResult:
        raw = content.encode() if isinstance(content, str) else content
        args = ProcessCsvArgs(filename=filename, file_id=self.upload(raw))
        return self.tasks.process_csv(args, self.job(job_id))

    def generate(self, filename: str, num_rows: int, job_id: str = "job") -> ProcessCsvResult:
        args = ProcessCsvArgs(filename=filename, num_rows=num_rows)
        return self.tasks.process_csv(args, self.job(job_id))

    def aggregate(self, **args: str) -> AggregateSalesResult:
        return self.tasks.aggregate_sales(
            AggregateSalesArgs.model_validate(args), self.job("aggregate")
        )

    def report(self, job_id: str = "report", **args: str) -> RenderReportResult:
        return self.tasks.render_report(RenderReportArgs.model_validate(args), self.job(job_id))

    def artifact(self, name: str, job_id: str = "job") -> bytes:
        return bytes(obstore.get(self.storage, artifact_key(job_id, name)).bytes())

    def rows(self, job_id: str = "job") -> list[tuple[Any, ...]]:
        path = self.scratch / "read.parquet"
        path.write_bytes(self.artifact("data.parquet", job_id))
        return duckdb.execute("FROM read_parquet(?)", [str(path)]).fetchall()

    def quarantine(self, job_id: str = "job") -> list[tuple[int, str, str, str]]:
        text = self.artifact("quarantine.csv", job_id).decode()
        _, *lines = csv.reader(io.StringIO(text, newline=""))
        return [(int(line), column, reason, raw) for line, column, reason, raw in lines]

    @staticmethod
    def job(job_id: str) -> Job:
        return cast("Job", ReportedJob(job_id))


def counts(result: ProcessCsvResult) -> tuple[int, int, int]:
    return result.rows_in, result.rows_clean, result.rows_quarantined


def types(result: ProcessCsvResult) -> list[str]:
    return [column.type for column in result.columns]
