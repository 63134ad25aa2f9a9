"""One batch while its items come in: chunk by chunk, several of them in flight at once.

The batch's record comes first; then, of each chunk, which items become jobs, the jobs' records and
their messages. A job's id is made of the batch's and of its item's place, so the same batch that is
submitted again makes the same jobs.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeAlias

from api.batches.store import BatchStore
from api.concurrency import yielding
from api.errors.types import (
    ApiError,
    BrokerUnavailable,
    InvalidField,
    InvalidRequest,
    OutcomeUnknown,
    ResultsUnavailable,
)
from api.jobs.bulk_submission import BulkSubmitter
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

_AT_ONCE: Final = 3
"""Chunks in flight at the same time: one being recorded, one confirmed, one made ready."""
_REASONS_SHOWN: Final = 20
_UNAVAILABLE: Final = (BrokerUnavailable, OutcomeUnknown, ResultsUnavailable)
_NOT_TRIED: Final = BrokerUnavailable("RabbitMQ stopped confirming before this job's turn.")

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


class Intake:
    """Submits the items of one batch as they come in."""

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
        self._has_nothing_to_submit = False
        """The broker has it all from an earlier request, or the key stands for another batch."""
        self._is_broken = False
        """Whether the broker or Redis could not be used: what comes after is not tried."""
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._in_flight: list[asyncio.Task[None]] = []
        """A task for each chunk that was begun."""
        self._jobs: set[int] = set()
        """Places of the items that were to become jobs."""
        self._not_accepted: list[ApiError] = []
        """Why some of them did not."""

    async def add(self, chunk: Sequence[Item]) -> None:
        """Begin to submit the next items; return when there may be more.

        Raises:
            ResultsUnavailable: nothing was queued, of this chunk or another.

        """
        start = self.batch.total
        jobs = {n: item for n, item in enumerate(chunk, start) if isinstance(item, Submission)}
        if jobs and not self._is_created:
            await self._create()  # before anything is counted: it may be that nothing is queued
        self.batch.total += len(chunk)
        self._jobs |= jobs.keys()
        self.batch.refusals |= {
            n: item for n, item in enumerate(chunk, start) if isinstance(item, ApiError)
        }
        if jobs and not self._has_nothing_to_submit:
            await self._begin(start, chunk, jobs)

    async def complete(self) -> SubmittedBatch:
        """Return the batch when all of its jobs are with the broker, or refused.

        Raises:
            InvalidRequest: no item could become a job.
            ApiError: the first reason, when no job at all was accepted.

        """
        if not self._jobs:
            raise _nothing_valid(self.batch.refusals)
        await self._done()
        if self._has_nothing_to_submit:
            return self.batch
        if len(self._not_accepted) == len(self._jobs):
            await self._delete()
            raise self._not_accepted[0]
        record = await self._finish(Reception.COMPLETE)
        if record.fingerprint and not self._not_accepted:
            await note_confirmed(self._store, record.id, record.expires_at)
        self.batch.record = record
        return self.batch

    async def break_off(self) -> list[str]:
        """Stop; return the ids of the jobs that the broker may have."""
        await self._done()
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
        self._has_nothing_to_submit = is_other or await self._store.is_confirmed(record.id)

    async def _begin(
        self, start: int, chunk: Sequence[Item], jobs: Mapping[int, Submission]
    ) -> None:
        """Submit a chunk in a task of its own, as soon as there is a slot for it."""
        await self._slots.acquire()
        items = b"".join(
            ITEM_JOB if isinstance(item, Submission) else ITEM_REFUSED for item in chunk
        )
        task = asyncio.create_task(self._submit(start, items, jobs))
        task.add_done_callback(lambda _: self._slots.release())
        self._in_flight.append(task)

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
        self._is_broken |= any(isinstance(error, _UNAVAILABLE) for error in refusals.values())

    async def _try(
        self, start: int, items: bytes, records: Sequence[JobRecord]
    ) -> Mapping[str, ApiError]:
        """Record and publish jobs; return, by their ids, why some were not accepted."""
        if self._is_broken:
            return dict.fromkeys((record.id for record in records), _NOT_TRIED)
        try:
            await self._batches.extend(self.batch.record.id, start, items, self._expires_at)
        except ResultsUnavailable as exc:
            return dict.fromkeys((record.id for record in records), exc)
        return await self._submitter.submit(records)

    async def _done(self) -> None:
        """Wait until no chunk is in flight."""
        await asyncio.gather(*self._in_flight)

    async def _finish(self, state: Reception) -> BatchRecord:
        changes = {"reception": state, "expires_at": self._expires_at}
        record = self.batch.record.model_copy(update=changes)
        try:
            await self._batches.finish(record)
        except ResultsUnavailable as exc:  # readers take it for broken off after BODY_SECONDS
            logger.warning("the end of batch %s is not recorded: %s", record.id, exc)
        return record

    async def _delete(self) -> None:
        """Delete the record of a batch without jobs, unless it is what remembers a key."""
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


def _nothing_valid(refusals: Mapping[int, ApiError]) -> InvalidRequest:
    return InvalidRequest(
        [
            InvalidField(field=f"items.{index}", rule=f"{problem.code}: {problem.detail}")
            for index, problem in islice(refusals.items(), _REASONS_SHOWN)
        ]
    )
