"""Submitting a batch while its items come in: chunk by chunk, some of them on their way at once.

The batch's record comes first; then, of each chunk, which items become jobs, the jobs' records and
their messages. A job's id is made of the batch's and of its item's place, so the same batch that is
submitted again makes the same jobs.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final, TypeAlias

from api.batches.store import BatchStore
from api.concurrency import SharedCalls, yielding
from api.errors.types import (
    ApiError,
    BrokerUnavailable,
    InvalidField,
    InvalidRequest,
    OutcomeUnknown,
    ResultsUnavailable,
)
from api.jobs.bulk_submission import BulkSubmitter
from api.jobs.cancellation import Canceller
from api.jobs.keyed_submission import Identity
from api.jobs.reconciliation import AFTERWARDS_SECONDS, note_confirmed
from api.jobs.submission import Submission
from api.store.jobs import JobStore
from contracts.records import (
    ITEM_JOB,
    ITEM_REFUSED,
    BatchRecord,
    JobRecord,
    Reception,
    batch_job_id,
    new_record,
)

Item: TypeAlias = Submission | ApiError
"""An item that is to become a job, or why it can't."""

_CHUNK: Final = 250
"""Items that are recorded in one round trip and published together. A batch of fewer is not
begun before its whole body has come in."""
_AT_ONCE: Final = 3
"""Chunks on their way at the same time: one being recorded, one confirmed, one made ready."""
_REASONS_SHOWN: Final = 20

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class SubmittedBatch:
    """A batch, and what became of its items."""

    record: BatchRecord
    total: int = 0
    refusals: dict[int, ApiError] = field(default_factory=dict)
    """By the places of the items."""
    replayed: bool = False

    @property
    def accepted(self) -> int:
        """How many items became jobs."""
        return self.total - len(self.refusals)


class BatchSubmitter:
    """Turns the items of a batch into confirmed jobs."""

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
        reception = _Reception(
            self._submitter, self._store, self._batches, record, self._job_ttl_seconds
        )
        try:
            async for chunk in _chunks(items):
                await reception.begin(chunk)
        except ApiError as exc:
            await self._break_off(reception, exc)
            raise
        return await reception.complete()

    async def _break_off(self, reception: "_Reception", reason: ApiError) -> None:
        """Cancel what was queued of a batch that is none, because its body has no end.

        Whoever is told of a malformed body will correct it and send it again, as a whole.
        """
        job_ids = await reception.break_off()
        if not job_ids:
            return
        batch_id = reception.batch.record.id
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


class _Reception:
    """One batch whose items are coming in."""

    def __init__(
        self,
        submitter: BulkSubmitter,
        store: JobStore,
        batches: BatchStore,
        record: BatchRecord,
        job_ttl_seconds: int,
    ) -> None:
        self.batch = SubmittedBatch(record)
        self._job_ttl_seconds = job_ttl_seconds
        self._submitter = submitter
        self._store = store
        self._batches = batches
        self._expires_at = record.expires_at
        self._is_created = False
        self._is_known = False
        """Whether there is nothing to submit: the broker has it all, or the key is another's."""
        self._is_away = False
        """Whether the broker or Redis could not be used any more."""
        self._seats = asyncio.Semaphore(_AT_ONCE)
        self._flights: list[asyncio.Task[None]] = []
        self._jobs: set[int] = set()
        """Places of the items that were to become jobs."""
        self._not_accepted: list[ApiError] = []
        """Why some of them did not."""

    async def begin(self, chunk: Sequence[Item]) -> None:
        """Begin to submit the next items; return when there may be more.

        Raises:
            ResultsUnavailable: nothing was queued, of this chunk or another.

        """
        start, end = self.batch.total, self.batch.total + len(chunk)
        jobs = {n: item for n, item in enumerate(chunk, start) if isinstance(item, Submission)}
        if jobs and not self._is_created:
            await self._create()  # before anything is counted: it may be that nothing is queued
        self.batch.total = end
        self._jobs |= jobs.keys()
        self.batch.refusals |= {
            n: item for n, item in enumerate(chunk, start) if isinstance(item, ApiError)
        }
        if jobs and not self._is_known:
            await self._seats.acquire()
            items = b"".join(ITEM_JOB if n in jobs else ITEM_REFUSED for n in range(start, end))
            flight = asyncio.create_task(self._submit(start, items, jobs))
            flight.add_done_callback(lambda _: self._seats.release())
            self._flights.append(flight)

    async def complete(self) -> SubmittedBatch:
        """Return the batch when all of its jobs are with the broker, or refused.

        Raises:
            InvalidRequest: no item could become a job.
            ApiError: the first reason, when no job at all was accepted.

        """
        if not self._jobs:
            raise _nothing_valid(self.batch.refusals)
        await self._landed()
        if self._is_known:
            return self.batch
        if len(self._not_accepted) == len(self._jobs):
            await self._forget()
            raise self._not_accepted[0]
        record = await self._finish(Reception.COMPLETE)
        if record.fingerprint and not self._not_accepted:
            await note_confirmed(self._store, record.id, record.expires_at)
        self.batch.record = record
        return self.batch

    async def break_off(self) -> list[str]:
        """Stop; return the ids of the jobs that the broker may have."""
        await self._landed()
        if self._is_created:
            await self._finish(Reception.BROKEN_OFF)
        accepted = sorted(self._jobs - self.batch.refusals.keys())
        return [self._job_id(index) async for index in yielding(accepted)]

    async def _create(self) -> None:
        record = self.batch.record
        is_new = await self._batches.create(record)
        self._is_created = True
        if is_new:
            return
        self.batch.replayed = True
        self.batch.record = (await self._batches.read(record.id)).record
        is_other = self.batch.record.fingerprint != record.fingerprint
        self._is_known = is_other or await self._store.is_confirmed(record.id)

    async def _submit(self, start: int, items: bytes, jobs: Mapping[int, Submission]) -> None:
        records = {
            index: self._new_record(index, job) async for index, job in yielding(jobs.items())
        }
        self._expires_at = max(self._expires_at, *(r.expires_at for r in records.values()))
        refusals = await self._try(start, items, list(records.values()))
        for index, record in records.items():
            if error := refusals.get(record.id):
                self.batch.refusals[index] = error
                self._not_accepted.append(error)
        self._is_away |= any(isinstance(error, _AWAY) for error in refusals.values())

    async def _try(
        self, start: int, items: bytes, records: Sequence[JobRecord]
    ) -> Mapping[str, ApiError]:
        if self._is_away:
            return dict.fromkeys((record.id for record in records), _NOT_TRIED)
        try:
            await self._batches.extend(self.batch.record.id, start, items, self._expires_at)
        except ResultsUnavailable as exc:
            return dict.fromkeys((record.id for record in records), exc)
        return await self._submitter.submit(records)

    async def _landed(self) -> None:
        """Wait for the chunks that are on their way."""
        await asyncio.gather(*self._flights)

    async def _finish(self, reception: Reception) -> BatchRecord:
        changes = {"reception": reception, "expires_at": self._expires_at}
        record = self.batch.record.model_copy(update=changes)
        try:
            await self._batches.finish(record)
        except ResultsUnavailable as exc:  # it will be seen when its time is over
            logger.warning("the end of batch %s is not recorded: %s", record.id, exc)
        return record

    async def _forget(self) -> None:
        """Delete the record of a batch without jobs; with a key, it is what knows the key."""
        if self.batch.record.fingerprint:
            return
        with suppress(ResultsUnavailable, TimeoutError):
            async with asyncio.timeout(AFTERWARDS_SECONDS):
                await self._batches.delete(self.batch.record.id)

    def _new_record(self, index: int, job: Submission) -> JobRecord:
        return new_record(
            job.spec,
            job.args,
            job_id=self._job_id(index),
            ttl_seconds=self._job_ttl_seconds,
            run_at=job.run_at,
            batch=self.batch.record.id,
            fingerprint=self.batch.record.fingerprint,
        )

    def _job_id(self, index: int) -> str:
        return batch_job_id(self.batch.record.id, index)


async def _chunks(items: AsyncIterator[Item]) -> AsyncIterator[list[Item]]:
    chunk: list[Item] = []
    async for item in items:
        chunk.append(item)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _nothing_valid(refusals: Mapping[int, ApiError]) -> InvalidRequest:
    return InvalidRequest(
        [
            InvalidField(field=f"items.{index}", rule=f"{problem.code}: {problem.detail}")
            for index, problem in islice(refusals.items(), _REASONS_SHOWN)
        ]
    )


_AWAY: Final = (BrokerUnavailable, OutcomeUnknown, ResultsUnavailable)
_NOT_TRIED: Final = BrokerUnavailable("RabbitMQ stopped confirming before this job's turn.")
