"""A worker whose tasks do what a test asks of them: `python lane_worker.py io`.

Everything around the tasks is the real thing. What a fetch does is in its address:
`http://<behaviour>.test/<parameter>`.
"""

import contextlib
import os
import signal
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery.exceptions import SoftTimeLimitExceeded
from obstore.exceptions import GenericError

from contracts.logs import configure_logging
from contracts.settings import SharedSettings
from contracts.storage import open_storage
from twinlane_sdk.errors import RejectedError, RetryableError
from twinlane_sdk.implementation import Implementation
from twinlane_sdk.job import Job
from twinlane_sdk.lanes import Lane
from twinlane_sdk.retry_policy import RetryPolicy
from twinlane_tasks.catalogue import bundled_tasks
from twinlane_tasks.http import FETCH_URL, FetchUrlArgs, FetchUrlResult
from twinlane_tasks.reports import (
    RENDER_REPORT,
    SEND_REPORT,
    RenderReportArgs,
    RenderReportResult,
    SendReportArgs,
    SendReportResult,
)
from twinlane_tasks.sums import SUM_NUMBERS, SumArgs, SumResult
from worker_runtime.app import create_worker_app
from worker_runtime.executor import implement
from worker_runtime.worker import run_worker

POISON = -1
"""A sum of it kills the process that computes it."""

DEAF = -2
"""A sum of it never ends and never looks whether it is cancelled."""

STUBBORN = -3
"""A sum of it works on, whatever its deadline says."""

NO_SALES = "nowhere"
"""A region whose report is rejected."""

CANCEL_GRACE_SECONDS = 1.0

_IMPATIENT = RetryPolicy(max_attempts=3, base_seconds=1, max_seconds=1)
_REPORTING_SECONDS = 1.0


class LaneWorkerSettings(SharedSettings):
    """What tests tell it."""

    heartbeat_file: Path
    gates: Path
    concurrency: int = 4
    worker_name: str | None = None
    deadline_seconds: float | None = None
    """Of every task; those of the catalogue by default."""


class Tasks:
    """Tasks that obey."""

    def __init__(self, gates: Path) -> None:
        self._gates = gates

    def fetch_url(self, args: FetchUrlArgs, job: Job) -> FetchUrlResult:
        parts = urlsplit(args.url)
        parameter = parts.path.removeprefix("/")
        content_type = None
        match (parts.hostname or "").removesuffix(".test"):
            case "fails-before" if job.attempt < int(parameter):
                raise RetryableError(f"attempt {job.attempt} failed")
            case "rejects-until" if not (self._gates / f"{parameter}.open").exists():
                raise RejectedError("not before it is mended")
            case "rejects":
                raise RejectedError("this will never work")
            case "breaks":
                raise ZeroDivisionError("a bug")
            case "loses-storage" if job.attempt < int(parameter):
                raise GenericError("the connection was reset")
            case "reports":
                self._report(job)
            case "waits":
                self._wait(parameter, job)
            case "writes":
                content_type = "x" * int(parameter)
        return FetchUrlResult(
            url=args.url, status=200, elapsed_seconds=0, size_bytes=0, content_type=content_type
        )

    def sum_numbers(self, args: SumArgs, job: Job) -> SumResult:
        if args.a == POISON:
            with (self._gates / f"{job.id}.deaths").open("a") as deaths:
                deaths.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        if args.a == DEAF:
            self._begin(job.id)
            while True:
                time.sleep(0.01)
        while args.a == STUBBORN:
            self._work_on()
        return SumResult(total=args.a + args.b)

    def render_report(self, args: RenderReportArgs, job: Job) -> RenderReportResult:
        if args.region == NO_SALES:
            raise RejectedError("no sales in this region")
        return RenderReportResult(
            subject=f"Report of job {job.id}",
            month=args.month,
            rows=0,
            html="report.html",
            text="report.txt",
            chart="chart.png",
            chart_alt="",
            table="table.csv",
        )

    def send_report(self, args: SendReportArgs, job: Job) -> SendReportResult:
        rendered = job.result_of(RENDER_REPORT)
        return SendReportResult(
            email=args.email, subject=rendered.subject, message_id="<1@test>", attachments=[]
        )

    def _report(self, job: Job) -> None:
        """Report a thousand times as often as is passed on."""
        started = time.monotonic()
        while time.monotonic() < started + _REPORTING_SECONDS:
            job.report(1, 4, "rows", "counting")
            time.sleep(0.000_25)

    def _work_on(self) -> None:
        with contextlib.suppress(SoftTimeLimitExceeded):
            time.sleep(1)

    def _begin(self, gate: str) -> None:
        (self._gates / f"{gate}.begun").touch()

    def _wait(self, gate: str, job: Job) -> None:
        """Say that it has begun, and wait until the gate is open, or the job is cancelled."""
        self._begin(gate)
        while not (self._gates / f"{gate}.open").exists():
            job.cancellation.stop_if_cancelled()
            time.sleep(0.01)


def main() -> int:
    """Serve the lane that the command line names."""
    lane = Lane(sys.argv[1])
    settings = LaneWorkerSettings()
    configure_logging(f"worker-{lane}", settings.log_level)
    catalogue = bundled_tasks()
    app = create_worker_app(settings, catalogue)
    storage = open_storage(settings.storage_url)
    tasks = Tasks(settings.gates)
    functions: dict[str, Any] = {
        FETCH_URL.name: tasks.fetch_url,
        SUM_NUMBERS.name: tasks.sum_numbers,
        RENDER_REPORT.name: tasks.render_report,
        SEND_REPORT.name: tasks.send_report,
    }
    for spec in catalogue.values():
        if spec.lane == lane:
            deadline = timedelta(seconds=settings.deadline_seconds or 0) or spec.deadline
            impatient = replace(spec, retry=_IMPATIENT, deadline=deadline)
            function = functions.get(spec.name, _nothing)
            implement(app, Implementation(impatient, function), storage)
    pool = {Lane.IO: "threads", Lane.CPU: "prefork"}[lane]
    return run_worker(
        app,
        lane,
        pool=pool,
        concurrency=settings.concurrency,
        beat=settings.heartbeat_file.touch,
        name=settings.worker_name,
        cancel_grace_seconds=CANCEL_GRACE_SECONDS if lane is Lane.CPU else None,
    )


def _nothing(_args: object, _job: Job) -> Any:  # noqa: ANN401 - it returns none
    raise AssertionError("no test asks for this task")


if __name__ == "__main__":
    sys.exit(main())
