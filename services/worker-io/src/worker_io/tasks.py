"""The io lane's tasks: from wire to domain and back."""

import logging
import random
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from contracts.storage import ARTIFACTS, UPLOADS, artifact_key
from twinlane_sdk.allow_lists import RecipientAllowList
from twinlane_sdk.errors import RejectedError
from twinlane_sdk.implementation import Implementation
from twinlane_sdk.job import Job
from twinlane_tasks.draws import DRAW_NUMBER, DrawArgs, DrawResult
from twinlane_tasks.http import (
    FAN_OUT,
    FETCH_URL,
    FanOutArgs,
    FanOutResult,
    FetchUrlArgs,
    FetchUrlResult,
)
from twinlane_tasks.reports import (
    RENDER_REPORT,
    SEND_REPORT,
    RenderReportResult,
    SendReportArgs,
    SendReportResult,
)
from twinlane_tasks.upkeep import PURGE_FILES, PurgeFilesArgs, PurgeFilesResult
from worker_io.draws import draw
from worker_io.fetching.fetcher import Fetcher
from worker_io.mail.lease import held_lease
from worker_io.mail.message import Report, build_mail
from worker_io.mail.smtp import MailServer, smtp_session
from worker_io.purge import PurgeTotals, purge

RECEIPT = "mail.json"
"""Artifact written once the mail server has accepted a report: a job run again sends nothing."""

LEASE = "claims/mail"
"""Key of the lease, in a folder below the job's artifacts: purged with them, not listed among them.

The name stays as it is: during an update, workers of two versions compete for the same key.
"""

_CLOCKS_DIFFER = timedelta(seconds=15)

logger = logging.getLogger(__name__)


class IoTasks:
    """The functions that implement the io lane's tasks."""

    def __init__(  # noqa: PLR0913 - one parameter per thing from outside
        self,
        *,
        fetcher: Fetcher,
        numbers: random.Random,
        storage: ObjectStore,
        mail_server: MailServer,
        mail_from: str,
        allowed_recipients: RecipientAllowList,
        upload_ttl: timedelta,
        artifact_ttl: timedelta,
    ) -> None:
        self._fetcher = fetcher
        self._numbers = numbers
        self._storage = storage
        self._mail_server = mail_server
        self._lease_validity = timedelta(seconds=mail_server.send_timeout_seconds) + _CLOCKS_DIFFER
        self._mail_from = mail_from
        self._allowed_recipients = allowed_recipients
        self._upload_ttl = upload_ttl
        self._artifact_ttl = artifact_ttl

    def implementations(self) -> Iterable[Implementation[Any, Any]]:
        """Yield each task of the lane with its function."""
        yield Implementation(FETCH_URL, self.fetch_url)
        yield Implementation(FAN_OUT, self.fan_out)
        yield Implementation(DRAW_NUMBER, self.draw_number)
        yield Implementation(SEND_REPORT, self.send_report)
        yield Implementation(PURGE_FILES, self.purge_files)

    def fetch_url(self, args: FetchUrlArgs, job: Job) -> FetchUrlResult:
        """GET one address."""
        fetched = self._fetcher.fetch(args.url, job.deadline_seconds, job.cancellation)
        return FetchUrlResult(**asdict(fetched))

    def fan_out(self, args: FanOutArgs, job: Job) -> FanOutResult:
        """GET many addresses at the same time."""
        started = time.monotonic()
        fetched = self._fetcher.fetch_all(
            args.urls,
            job.deadline_seconds,
            lambda done: job.report(done, len(args.urls), "urls"),
            job.cancellation,
        )
        return FanOutResult(
            responses=[FetchUrlResult(**asdict(each)) for each in fetched],
            elapsed_seconds=round(time.monotonic() - started, 3),
        )

    def draw_number(self, args: DrawArgs, job: Job) -> DrawResult:  # noqa: ARG002 - tasks are alike
        """Draw a number; a low one is a retry."""
        return DrawResult(number=draw(self._numbers))

    def send_report(self, args: SendReportArgs, job: Job) -> SendReportResult:
        """Mail the report that the stage before has rendered, once.

        A receipt says that it was sent, and a lease that somebody is sending it; a delivery that
        finds a lease and no receipt is retried. A mail is sent twice only if the server accepted
        it from a worker that died, or lost its connection, before it could write the receipt.
        """
        self._allowed_recipients.check(args.email)
        if sent := self._receipt(job.id):
            return sent
        rendered = job.result_of(RENDER_REPORT)
        mail = build_mail(
            self._report(job.id, rendered), job.id, self._mail_from, args.email, datetime.now(UTC)
        )
        with (
            smtp_session(self._mail_server) as send,
            held_lease(self._storage, artifact_key(job.id, LEASE), self._lease_validity),
        ):
            if sent := self._receipt(job.id):  # by another delivery, in the meantime
                return sent
            job.cancellation.stop_if_cancelled()
            send(mail)
            result = SendReportResult(
                email=args.email,
                subject=rendered.subject,
                message_id=mail["Message-ID"],
                attachments=[rendered.table],
            )
            self._write_receipt(job.id, result)
        return result

    def purge_files(self, args: PurgeFilesArgs, job: Job) -> PurgeFilesResult:  # noqa: ARG002 - alike
        """Delete expired files; the next run deletes what is left at the deadline."""
        now = datetime.now(UTC)
        uploads = self._purge(UPLOADS, now - self._upload_ttl, job)
        artifacts = self._purge(ARTIFACTS, now - self._artifact_ttl, job)
        return PurgeFilesResult(
            uploads=uploads.deleted,
            artifacts=artifacts.deleted,
            freed_bytes=uploads.freed_bytes + artifacts.freed_bytes,
        )

    def _purge(self, prefix: str, before: datetime, job: Job) -> PurgeTotals:
        stop_at = time.monotonic() + job.deadline_seconds / 2
        totals = PurgeTotals()
        for totals in purge(self._storage, prefix, before):
            job.cancellation.stop_if_cancelled()
            job.report(totals.seen, None, "files", f"{prefix}: {totals.deleted} deleted")
            if time.monotonic() > stop_at:
                break
        return totals

    def _report(self, job_id: str, rendered: RenderReportResult) -> Report:
        return Report(
            subject=rendered.subject,
            text=self._artifact(job_id, rendered.text).decode(),
            html=self._artifact(job_id, rendered.html).decode(),
            chart_png=self._artifact(job_id, rendered.chart),
            chart_alt=rendered.chart_alt,
            table_csv=self._artifact(job_id, rendered.table),
            table_name=rendered.table,
        )

    def _receipt(self, job_id: str) -> SendReportResult | None:
        content = self._read(artifact_key(job_id, RECEIPT))
        return SendReportResult.model_validate_json(content) if content else None

    def _write_receipt(self, job_id: str, result: SendReportResult) -> None:
        try:
            key = artifact_key(job_id, RECEIPT)
            obstore.put(self._storage, key, result.model_dump_json().encode())
        except (BaseError, OSError) as exc:
            # Failing here would send the mail again. The job's result says that it was sent, too.
            logger.warning("%s: mail was sent, its receipt not written: %s", job_id, exc)

    def _artifact(self, job_id: str, name: str) -> bytes:
        content = self._read(artifact_key(job_id, name))
        if content is None:
            raise RejectedError(f"the report's {name} is gone; submit the report again")
        return content

    def _read(self, key: str) -> bytes | None:
        try:
            return bytes(obstore.get(self._storage, key).bytes())
        except FileNotFoundError:
            return None
