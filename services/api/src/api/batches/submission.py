"""Submitting a batch: the jobs of its first items are published while the others come in.

A body that does not come to its end makes no batch: what was queued by then is cancelled.
"""

import logging
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from api.batches.intake import Intake, Item, SubmittedBatch
from api.batches.store import BatchStore
from api.concurrency import SharedCalls
from api.errors.types import ApiError, ResultsUnavailable
from api.jobs.bulk_submission import BulkSubmitter
from api.jobs.cancellation import Canceller
from api.jobs.keyed_submission import Identity
from api.store.jobs import JobStore
from contracts.records import BatchRecord, Reception

_CHUNK: Final = 250
"""Items that are recorded in one round trip and published together. A batch of fewer is not
begun before its whole body has come in."""

logger = logging.getLogger(__name__)


class BatchSubmitter:
    """Turns the items of batches into confirmed jobs."""

    def __init__(
        self,
        submitter: BulkSubmitter,
        store: JobStore,
        batches: BatchStore,
        canceller: Canceller,
        job_ttl_seconds: int,
    ) -> None:
        self._submitter = submitter
        self._store = store
        self._batches = batches
        self._canceller = canceller
        self._job_ttl_seconds = job_ttl_seconds
        self._calls: SharedCalls[SubmittedBatch] = SharedCalls()

    async def submit(
        self, items: AsyncIterator[Item], identity: Identity | None = None
    ) -> SubmittedBatch:
        """Accept the items as they come, under one batch id.

        With a key, what an earlier request could not get accepted is submitted again.

        Raises:
            InvalidRequest: every item is refused for what it is.
            IdempotencyKeyReused: its key stands for another batch; nothing was queued.
            ApiError: the first reason, when no job at all was accepted; or why the items could not
                be read to their end, and jobs that were queued by then are cancelled.

        """
        record = self._new_record(identity)
        if identity is None:
            return await self._submit(record, items)
        batch, is_shared = await self._calls.join(record.id, lambda: self._submit(record, items))
        identity.check(batch.record.fingerprint)
        return replace(batch, replayed=batch.replayed or is_shared)

    def _new_record(self, identity: Identity | None) -> BatchRecord:
        now = datetime.now(UTC)
        return BatchRecord(
            id=identity.id if identity else str(uuid.uuid4()),
            submitted_at=now,
            expires_at=now + timedelta(seconds=self._job_ttl_seconds),
            fingerprint=identity.fingerprint if identity else None,
            reception=Reception.RECEIVING,
        )

    async def _submit(self, record: BatchRecord, items: AsyncIterator[Item]) -> SubmittedBatch:
        intake = Intake(self._submitter, self._store, self._batches, record, self._job_ttl_seconds)
        try:
            async for chunk in _chunks(items):
                await intake.add(chunk)
        except ApiError as exc:
            await self._break_off(intake, exc)
            raise
        return await intake.complete()

    async def _break_off(self, intake: Intake, reason: ApiError) -> None:
        """Cancel what was queued, and add to the reason which batch that is.

        Whoever is told of a malformed body will correct it and send it again, as a whole.
        """
        job_ids = await intake.break_off()
        if not job_ids:
            return
        batch_id = intake.batch.record.id
        done = "are cancelled, unless they had begun"
        try:
            await self._canceller.cancel(job_ids)
        except ResultsUnavailable as exc:
            logger.warning("batch %s broke off and can't be cancelled: %s", batch_id, exc)
            done = f"could not be cancelled: POST /v1/batches/{batch_id}/cancel"
        reason.detail += (
            f" The {len(job_ids):,} jobs that earlier items had become {done}; "
            f"GET /v1/batches/{batch_id} shows them."
        )
        reason.members |= {"batch": batch_id, "accepted": len(job_ids)}


async def _chunks(items: AsyncIterator[Item]) -> AsyncIterator[list[Item]]:
    chunk: list[Item] = []
    async for item in items:
        chunk.append(item)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
