"""Makes Redis agree with the broker on jobs that were recorded and not confirmed.

Of a job that was refused nothing is kept. A job of which nobody knows whether the broker has it is
published again until the broker confirms, or it fails; should the broker have both messages,
workers run only the first. The marks in Redis outlive this process.
"""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError

from api.broker.publisher import Publisher
from api.concurrency import stop_task
from api.errors.types import ApiError, JobNotFound, OutcomeUnknown, ResultsUnavailable
from api.store.jobs import JobStore
from contracts.failures import FailureReason
from contracts.records import JobRecord
from contracts.states import FAILURE_STATE

AFTERWARDS_SECONDS: Final = 0.4
"""What Redis may add to an answer that was late already."""

_PAUSE_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class Reconciler:
    """Does at once what Redis takes at once, and the rest in the background: one pass a second.

    A job that the broker does not take for `give_up_seconds` fails.
    """

    def __init__(self, store: JobStore, publisher: Publisher, give_up_seconds: float) -> None:
        self._store = store
        self._publisher = publisher
        self._give_up = timedelta(seconds=give_up_seconds)
        self._unconfirmed: set[str] = set()
        self._to_delete: set[str] = set()
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with what an earlier process left behind."""
        self._worker = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; the marks stay."""
        if self._worker:
            await stop_task(self._worker)

    async def reconcile(self, refused: Sequence[tuple[JobRecord, ApiError]]) -> None:
        """Take over jobs that were recorded and then refused, before their clients know.

        After OutcomeUnknown a job is published again; after any other error its record is deleted.
        """
        unknown = [record for record, error in refused if isinstance(error, OutcomeUnknown)]
        if unknown:
            await self._publish_later(unknown)
        certain = [record for record, error in refused if not isinstance(error, OutcomeUnknown)]
        if certain:
            await self._delete(certain)

    async def _publish_later(self, records: Sequence[JobRecord]) -> None:
        self._unconfirmed |= {record.id for record in records}
        self._wake.set()
        # Without the marks, they would be forgotten with this process.
        await _briefly(self._store.mark_unconfirmed(records))

    async def _delete(self, records: Sequence[JobRecord]) -> None:
        try:
            async with asyncio.timeout(AFTERWARDS_SECONDS):
                await self._store.delete([record.id for record in records])
        except (ResultsUnavailable, TimeoutError):
            # Not those with a key: the client may be submitting them again already.
            self._to_delete |= {record.id for record in records if record.fingerprint is None}
            self._wake.set()

    # --- in the background ---

    async def _run(self) -> None:
        await self._load()
        while True:
            await self._wake.wait()
            try:
                await self._delete_all()
                await self._publish_all()
            except Exception as exc:  # noqa: BLE001 - whatever it is, jobs wait to be reconciled
                logger.warning("%d jobs to reconcile: %s", len(self._unconfirmed), exc)
            if not self._unconfirmed and not self._to_delete:
                self._wake.clear()
                continue
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _load(self) -> None:
        while True:
            try:
                self._unconfirmed |= set(await self._store.unconfirmed_ids())
            except ResultsUnavailable:
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                break
        if self._unconfirmed:
            self._wake.set()

    async def _delete_all(self) -> None:
        ids = list(self._to_delete)
        if ids:
            await self._store.delete(ids)
            self._to_delete.difference_update(ids)

    async def _publish_all(self) -> None:
        for job_id in list(self._unconfirmed):
            try:
                with suppress(JobNotFound):  # it has expired
                    await self._publish(job_id)
                await self._store.clear_unconfirmed(job_id)
            except ValidationError:  # of its record: that must not keep the others waiting
                logger.exception("job %s can't be read: the next process will try again", job_id)
            self._unconfirmed.discard(job_id)

    async def _publish(self, job_id: str) -> None:
        """Return when the job is queued, has begun, or has failed.

        Raises:
            ApiError: not yet.

        """
        snapshot = await self._store.snapshot(job_id)
        if snapshot.status.state.has_begun:
            return
        deadline = self._publisher.deadline()
        try:
            await self._publisher.ready(deadline)
            await self._publisher.publish(snapshot.record, deadline)
        except ApiError as exc:
            await self._give_up_if_due(snapshot.record, exc)
        else:
            logger.info("job %s is queued after all", job_id)

    async def _give_up_if_due(self, record: JobRecord, error: ApiError) -> None:
        """Have a job fail if the broker has not taken it for long enough.

        Raises:
            ApiError: not yet.

        """
        if datetime.now(UTC) - record.submitted_at < self._give_up:
            raise error
        seconds = self._give_up.total_seconds()
        reason = f"RabbitMQ did not take it for {seconds:.0f} s: {error.detail} Submit it again."
        await self._store.end(record, FAILURE_STATE, FailureReason.NEVER_QUEUED.error_type, reason)
        logger.warning("job %s failed: %s", record.id, reason)


async def note_confirmed(store: JobStore, job_or_batch_id: str, expires_at: datetime) -> None:
    """Note that the broker has what an Idempotency-Key stands for: a later request is cheaper."""
    await _briefly(store.mark_confirmed(job_or_batch_id, expires_at))


async def _briefly(write: Awaitable[None]) -> None:
    """Write what is good to have, if Redis takes it at once."""
    try:
        async with asyncio.timeout(AFTERWARDS_SECONDS):
            await write
    except (ResultsUnavailable, TimeoutError) as exc:
        logger.warning("Redis is away after a submission: %s", exc)
