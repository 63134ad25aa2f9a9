"""The tasks of the cpu lane: from messages to the domain and back."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import obstore
from obstore.store import ObjectStore

from contracts.storage import artifact_key
from twinlane_sdk.errors import DeadlineExceededError, RejectedError, RetryableError
from twinlane_sdk.implementation import Implementation
from twinlane_sdk.job import Job
from twinlane_tasks.csv import PROCESS_CSV, ProcessCsvArgs, ProcessCsvResult, SalesImport
from twinlane_tasks.reports import RENDER_REPORT, RenderReportArgs, RenderReportResult
from twinlane_tasks.sales import AGGREGATE_SALES, AggregateSalesArgs, AggregateSalesResult
from twinlane_tasks.sums import SUM_NUMBERS, SumArgs, SumResult
from worker_cpu import sums
from worker_cpu.csv_import.importing import DATA, PROFILE, QUARANTINE, CsvImport, import_csv
from worker_cpu.csv_import.source import fetch_upload
from worker_cpu.database import Database
from worker_cpu.progress import Progress
from worker_cpu.reports.rendering import CHART, HTML, TABLE, TEXT, render_report
from worker_cpu.reports.report import compose_report
from worker_cpu.sales.columns import sales_columns
from worker_cpu.sales.dataset import SalesDataset
from worker_cpu.sales.figures import SalesReader, aggregate_sales
from worker_cpu.sales.sample import write_sample
from worker_cpu.sales.totals import total_by_day
from worker_cpu.scratch import scratch_folder
from worker_cpu.settings import WorkerCpuSettings


class CpuTasks:
    """What the worker does, with its settings and its storage."""

    def __init__(self, settings: WorkerCpuSettings, storage: ObjectStore) -> None:
        self._settings = settings
        self._storage = storage
        self._database = Database(settings.duckdb_memory_limit_bytes, settings.cpu_threads)
        self._dataset = SalesDataset(storage)

    def implementations(self) -> Iterable[Implementation[Any, Any]]:
        """Yield each task of the lane with its function."""
        yield Implementation(SUM_NUMBERS, self.sum_numbers)
        yield Implementation(PROCESS_CSV, self.process_csv)
        yield Implementation(AGGREGATE_SALES, self.aggregate_sales)
        yield Implementation(RENDER_REPORT, self.render_report)

    def sum_numbers(self, args: SumArgs, job: Job) -> SumResult:
        """Add two integers."""
        sums.simulate_processing(self._settings.sum_delay_seconds, job.report)
        return SumResult(total=sums.add(args.a, args.b))

    def process_csv(self, args: ProcessCsvArgs, job: Job) -> ProcessCsvResult:
        """Convert, profile and store a CSV; import it if it holds sales."""
        self._fail_at_random()
        with self._scratch() as scratch:
            source = self._source(args, scratch, job.report)
            imported = import_csv(
                source, scratch, self._database, self._settings.max_csv_columns, job.report
            )
            sales = self._import_sales(args.filename, imported, scratch, job.report)
            artifacts = [DATA, QUARANTINE, PROFILE]
            self._store(job.id, scratch, artifacts)
        return ProcessCsvResult(
            filename=args.filename,
            generated=args.file_id is None,
            encoding=imported.encoding,
            delimiter=imported.dialect.delimiter,
            rows_in=imported.rows_in,
            rows_clean=imported.rows_clean,
            rows_quarantined=imported.rows_quarantined,
            columns=imported.columns,
            quarantine_preview=imported.quarantine_preview,
            sales=sales,
            artifacts=artifacts,
        )

    def aggregate_sales(self, args: AggregateSalesArgs, job: Job) -> AggregateSalesResult:
        """Sum up the stored sales."""
        job.report(0, None, "months", "reading sales")
        with self._sales_reader() as (reader, _):
            return aggregate_sales(reader, args.region, args.month, args.until)

    def render_report(self, args: RenderReportArgs, job: Job) -> RenderReportResult:
        """Render a sales report, for the io lane to send."""
        with self._sales_reader() as (reader, scratch):
            report = compose_report(reader, args.report_type, args.region, args.month)
            render_report(report, scratch)
            files = [HTML, TEXT, CHART, TABLE]
            self._store(job.id, scratch, files)
        return RenderReportResult(
            subject=report.subject,
            month=report.month,
            rows=report.figures.rows,
            html=HTML,
            text=TEXT,
            chart=CHART,
            chart_alt=report.chart_alt,
            table=TABLE,
        )

    def _fail_at_random(self) -> None:
        if random.random() < self._settings.fault_rate:  # noqa: S311 - a demonstration
            raise RetryableError(f"failed on purpose: FAULT_RATE is {self._settings.fault_rate:g}")

    def _source(self, args: ProcessCsvArgs, scratch: Path, progress: Progress) -> Path:
        if args.file_id is not None:
            limit = self._settings.max_csv_bytes
            return fetch_upload(self._storage, args.file_id, scratch, limit, progress)
        sample = scratch / "sample.csv"
        with self._database.connect(scratch) as connection:
            write_sample(connection, args.filename, args.num_rows, sample, progress)
        return sample

    def _import_sales(
        self, source: str, imported: CsvImport, scratch: Path, progress: Progress
    ) -> SalesImport | None:
        columns = sales_columns(imported.dialect.columns)
        # A file of nothing but faults must not replace what an earlier one brought.
        if columns is None or (imported.rows_in and not imported.rows_clean):
            return None
        with self._database.connect(scratch) as connection:
            months = total_by_day(connection, scratch / DATA, columns, scratch, progress)
        changed = self._dataset.replace(source, months)
        return SalesImport(
            source=source, rows=imported.rows_clean, months=sorted(months), changed=changed
        )

    def _store(self, job_id: str, folder: Path, names: Iterable[str]) -> None:
        for name in names:
            obstore.put(self._storage, artifact_key(job_id, name), folder / name)

    @contextmanager
    def _sales_reader(self) -> Iterator[tuple[SalesReader, Path]]:
        with self._scratch() as scratch, self._database.connect(scratch) as connection:
            snapshot = self._dataset.newest()
            yield SalesReader(connection, self._dataset, snapshot, scratch), scratch

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """Yield a scratch folder, and turn errors of libraries into what they mean for the job."""
        try:
            with scratch_folder(self._settings.scratch_folder) as scratch:
                yield scratch
        except duckdb.OutOfMemoryException as exc:
            raise RejectedError(
                f"needs more memory than DUCKDB_MEMORY_LIMIT_BYTES allows: {exc}"
            ) from exc
        except RuntimeError as exc:
            # DuckDB loses what the handler of a signal raises, here that of the deadline.
            if str(exc) != "Query interrupted":
                raise
            raise DeadlineExceededError("the job took longer than it may") from exc
        except (obstore.exceptions.BaseError, OSError, duckdb.IOException) as exc:
            raise RetryableError(f"storage or scratch folder: {exc}") from exc
