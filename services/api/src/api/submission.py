"""Submitting a job: the record first, then the message, then the answer. Never the other way."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

from api.errors import (
    ApiError,
    BrokerUnavailable,
    JobNotFound,
    OutcomeUnknown,
    ResultsUnavailable,
)
from api.group_commit import GroupCommit
from api.idempotency import Identity
from api.job_store import JobStore
from api.publisher import Publisher
from api.refusals import AFTERWARDS_SECONDS, Refusals
from contracts.records import BatchRecord, JobRecord, JobState, new_record
from contracts.schemas import Args
from contracts.tasks import TaskSpec

T = TypeVar("T")

_AT_ONCE: Final = 100
"""Publishes of one batch that wait for their confirms at the same time."""

_OTHERS_TURN_SECONDS: Final = 0.5
"""What another process may take to confirm what it is submitting with the same key just now."""

_LOOK_AGAIN_SECONDS: Final = 0.05

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client wants done, valid and allowed."""

    spec: TaskSpec[Any, Any]
    args: Args
    run_at: datetime | None = None
    identity: Identity | None = None


class Accepted(NamedTuple):
    """A job that the broker has; `replayed` if an earlier request had submitted it."""

    record: JobRecord
    replayed: bool


class AcceptedBatch(NamedTuple):
    """A batch and, for each of its jobs, None or why it was not accepted."""

    record: BatchRecord
    refusals: list[ApiError | None]
    replayed: bool


class Submitter:
    """Turns submissions into confirmed jobs."""

    def __init__(
        self,
        store: JobStore,
        publisher: Publisher,
        commits: GroupCommit,
        refusals: Refusals,
        job_ttl_seconds: int,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._commits = commits
        self._refusals = refusals
        self._job_ttl_seconds = job_ttl_seconds
        self._flights: dict[str, asyncio.Task[Any]] = {}

    async def submit(self, submission: Submission) -> Accepted:
        """Accept one job; when this returns, the broker has it.

        Raises:
            Overloaded, BrokerUnavailable, LaneFull: nothing was queued and no record is left.
            OutcomeUnknown: the record is kept, and the job runs or fails later.
            ResultsUnavailable: nothing was queued.
            IdempotencyKeyReused: its key stands for another submission.

        """
        record = self.record(submission)
        identity = submission.identity
        if identity is None:
            await self._commits.submit(record)
            return Accepted(record, replayed=False)
        accepted, joined = await self._together(record.id, lambda: self._submit_keyed(record))
        identity.check(accepted.record.fingerprint)
        return Accepted(accepted.record, accepted.replayed or joined)

    async def submit_batch(
        self, batch: BatchRecord, records: Sequence[JobRecord], identity: Identity | None
    ) -> AcceptedBatch:
        """Accept many jobs under one id.

        With a key, what an earlier request could not get accepted is submitted again.

        Raises:
            BrokerUnavailable, ResultsUnavailable: nothing was queued.
            IdempotencyKeyReused: its key stands for another batch.

        """
        if identity is None:
            return await self._submit_batch(batch, records)
        accepted, joined = await self._together(
            batch.id, lambda: self._submit_batch(batch, records)
        )
        identity.check(accepted.record.fingerprint)
        return accepted._replace(replayed=accepted.replayed or joined)

    def record(
        self, submission: Submission, job_id: str | None = None, batch: str | None = None
    ) -> JobRecord:
        """Return the record of a new job."""
        identity = submission.identity
        return new_record(
            submission.spec,
            submission.args,
            job_id=job_id or (identity.id if identity else str(uuid.uuid4())),
            ttl_seconds=self._job_ttl_seconds,
            run_at=submission.run_at,
            batch=batch,
            fingerprint=identity.fingerprint if identity else None,
        )

    async def _together(
        self, key: str, submit: Callable[[], Coroutine[Any, Any, T]]
    ) -> tuple[T, bool]:
        """Submit once for all requests that come with a key meanwhile; say whether one joined."""
        flight = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(submit())
            flight.add_done_callback(lambda done: self._landed(key, done))
        outcome: T = await asyncio.shield(flight)
        return outcome, joined

    def _landed(self, key: str, flight: asyncio.Task[Any]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # its clients may all have gone: nobody else would look

    # --- one job ---

    async def _submit_keyed(self, record: JobRecord) -> Accepted:
        deadline = self._publisher.deadline()
        while True:
            if await self._commits.submit(record):
                await self._remember(record.id, record.expires_at)
                return Accepted(record, replayed=False)
            try:
                return await self._replay(record, deadline)
            except JobNotFound:
                continue  # it was refused and taken back this very moment

    async def _replay(self, record: JobRecord, deadline: float) -> Accepted:
        """Make sure that the broker has a job whose record an earlier request has written."""
        known = (await self._store.snapshot(record.id)).record
        same = known.fingerprint == record.fingerprint
        if same and not await self._is_with_broker(known):
            # Published twice it would still be one job: workers know that it has ended.
            await self._publish_known(known, deadline)
            await self._store.create(known)  # who was refused meanwhile may have taken it back
            await self._remember(known.id, known.expires_at)
        return Accepted(known, replayed=True)

    async def _is_with_broker(self, record: JobRecord) -> bool:
        """Say whether a job is known to have reached the broker, or does so in a moment."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _OTHERS_TURN_SECONDS
        while not await self._store.is_confirmed(record.id):
            if await self._has_begun(record) or loop.time() > give_up:
                break
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        else:
            return True
        return await self._has_begun(record)

    async def _has_begun(self, record: JobRecord) -> bool:
        state = (await self._store.snapshot(record.id)).status.state
        return state not in {JobState.SCHEDULED, JobState.QUEUED}

    async def _publish_known(self, record: JobRecord, deadline: float) -> None:
        try:
            await self._publisher.publish(record, deadline)
        except OutcomeUnknown as exc:
            await self._refusals.settle([(record, exc)])
            raise

    # --- many jobs ---

    async def _submit_batch(
        self, batch: BatchRecord, records: Sequence[JobRecord]
    ) -> AcceptedBatch:
        await self._publisher.ready(self._publisher.deadline())
        is_new = await self._store.create_batch(batch)
        known = batch if is_new else await self._store.batch(batch.id)
        accepted = AcceptedBatch(known, [None] * len(known.jobs), replayed=not is_new)
        done = not is_new and await self._store.is_confirmed(batch.id)
        if known.fingerprint != batch.fingerprint or done:
            return accepted
        are_new = await self._store.create_many(records)
        unsent = await self._unsent(records, are_new)
        refusals = await self._publish_all([record for record in records if record.id in unsent])
        if batch.fingerprint and not refusals:
            await self._remember(batch.id, batch.expires_at)
        return accepted._replace(refusals=[refusals.get(record.id) for record in records])

    async def _unsent(self, records: Sequence[JobRecord], are_new: Sequence[bool]) -> set[str]:
        """Return the ids of jobs that are new, or may not have reached the broker before."""
        unsent = {record.id for record, is_new in zip(records, are_new, strict=True) if is_new}
        known = [record.id for record in records if record.id not in unsent]
        async for snapshot in self._store.snapshots(known):
            if snapshot.status.state in {JobState.SCHEDULED, JobState.QUEUED}:
                unsent.add(snapshot.record.id)
        return unsent

    async def _publish_all(self, records: Sequence[JobRecord]) -> dict[str, ApiError]:
        """Publish jobs and return why some were refused, by id; stop when the broker is away."""
        refusals: dict[str, ApiError] = {}
        for start in range(0, len(records), _AT_ONCE):
            chunk = records[start : start + _AT_ONCE]
            deadline = self._publisher.deadline()
            outcomes = await self._publisher.publish_many(chunk, deadline)
            refused = zip(chunk, outcomes, strict=True)
            refusals |= {record.id: error for record, error in refused if error}
            if any(isinstance(error, _BROKER_AWAY) for error in refusals.values()):
                rest = records[start + _AT_ONCE :]
                refusals |= dict.fromkeys((record.id for record in rest), _NOT_TRIED)
                break
        await self._refusals.settle([(r, refusals[r.id]) for r in records if r.id in refusals])
        return refusals

    # --- afterwards ---

    async def _remember(self, job_or_batch_id: str, expires_at: datetime) -> None:
        """Make a later request cheaper; it is no part of this one's promise."""
        try:
            async with asyncio.timeout(AFTERWARDS_SECONDS):
                await self._store.mark_confirmed(job_or_batch_id, expires_at)
        except (ResultsUnavailable, TimeoutError) as exc:
            logger.warning("Redis is away after a submission: %s", exc)


_BROKER_AWAY: Final = (BrokerUnavailable, OutcomeUnknown)
_NOT_TRIED: Final = BrokerUnavailable("RabbitMQ stopped confirming before this job's turn.")
