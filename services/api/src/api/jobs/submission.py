"""Submitting a job: the record first, then the message, then the answer. Never the other way."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

from api.broker.publisher import Publisher
from api.errors.types import ApiError, JobNotFound, OutcomeUnknown
from api.jobs.group_commit import GroupCommit
from api.jobs.reconciliation import Reconciler, note_confirmed
from api.store.jobs import JobStore
from api.web.idempotency import Identity
from contracts.records import BatchRecord, JobRecord, new_record
from contracts.schemas import Args
from contracts.tasks import TaskSpec

T = TypeVar("T")


_OTHERS_TURN_SECONDS: Final = 0.5
"""What another process may take to confirm what it is submitting with the same key just now."""

_LOOK_AGAIN_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client wants done, valid and allowed."""

    spec: TaskSpec[Any, Any]
    args: Args
    run_at: datetime | None = None
    identity: Identity | None = None
    job_id: str | None = None
    """The id that the job is to have, unless its identity gives it one."""


class Accepted(NamedTuple):
    """A job that the broker has; `replayed` if an earlier request had submitted it."""

    record: JobRecord
    replayed: bool


class Submitter:
    """Turns submissions into confirmed jobs."""

    def __init__(
        self,
        store: JobStore,
        publisher: Publisher,
        commits: GroupCommit,
        reconciler: Reconciler,
        job_ttl_seconds: int,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._commits = commits
        self._reconciler = reconciler
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
        accepted, joined = await self.together(record.id, lambda: self._submit_keyed(record))
        identity.check(accepted.record.fingerprint)
        return Accepted(accepted.record, accepted.replayed or joined)

    async def submit_many(self, records: Sequence[JobRecord]) -> dict[str, ApiError]:
        """Accept many jobs at once; return, by their ids, why some were not accepted.

        Of jobs that an earlier request has recorded, those are published that may not have reached
        the broker by it. It raises nothing: what concerns all jobs is each one's reason.
        """
        deadline = self._publisher.deadline()
        try:
            await self._publisher.ready(deadline)
            are_new = await self._store.create_many(records)
            unsent = await self._unsent(records, are_new)
        except ApiError as exc:
            # Not those with a key: they may be jobs that an earlier request had accepted.
            await self._reconciler.reconcile([(r, exc) for r in records if r.fingerprint is None])
            return dict.fromkeys((record.id for record in records), exc)
        outcomes = await self._publisher.publish_many(unsent, deadline)
        refusals = {r.id: error for r, error in zip(unsent, outcomes, strict=True) if error}
        new = {record.id for record, is_new in zip(records, are_new, strict=True) if is_new}
        await self._reconciler.reconcile(
            [
                (record, error)
                for record in unsent
                if (error := refusals.get(record.id))
                and (record.id in new or isinstance(error, OutcomeUnknown))
            ]
        )
        return refusals

    def record(
        self, submission: Submission, batch: BatchRecord | None = None, job_id: str | None = None
    ) -> JobRecord:
        """Return the record of a new job, of a batch under an id that is made of the batch's."""
        known_by = batch or submission.identity
        if job_id is None:
            own_id = submission.job_id or str(uuid.uuid4())
            job_id = submission.identity.id if submission.identity else own_id
        return new_record(
            submission.spec,
            submission.args,
            job_id=job_id,
            ttl_seconds=self._job_ttl_seconds,
            run_at=submission.run_at,
            batch=batch.id if batch else None,
            fingerprint=known_by.fingerprint if known_by else None,
        )

    async def together(
        self, key: str, submit: Callable[[], Coroutine[Any, Any, T]]
    ) -> tuple[T, bool]:
        """Submit once for all requests that come with a key meanwhile; say whether this joined."""
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
                await note_confirmed(self._store, record.id, record.expires_at)
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
            await note_confirmed(self._store, known.id, known.expires_at)
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
        return (await self._store.snapshot(record.id)).status.state.has_begun

    async def _publish_known(self, record: JobRecord, deadline: float) -> None:
        try:
            await self._publisher.publish(record, deadline)
        except OutcomeUnknown as exc:
            await self._reconciler.reconcile([(record, exc)])
            raise

    # --- many jobs ---

    async def _unsent(
        self, records: Sequence[JobRecord], are_new: Sequence[bool]
    ) -> list[JobRecord]:
        """Return the jobs that are new, or may not have reached the broker before."""
        if all(are_new):
            return list(records)
        known = [record.id for record, is_new in zip(records, are_new, strict=True) if not is_new]
        begun = {
            snapshot.record.id
            async for snapshot in self._store.snapshots(known)
            if snapshot.status.state.has_begun
        }
        return [record for record in records if record.id not in begun]
