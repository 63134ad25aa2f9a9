"""Submitting with an Idempotency-Key: however often it is asked for, it is one job.

The job's id is made of the key, so its record is what remembers the key, in every process and for
as long as the job is known.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from api.broker.publisher import Publisher
from api.concurrency import SharedCalls
from api.errors.types import IdempotencyKeyReused, JobNotFound, OutcomeUnknown
from api.jobs.group_commit import GroupCommit
from api.jobs.reconciliation import Reconciler, note_confirmed
from api.store.jobs import JobStore
from contracts.records import JobRecord

_OTHERS_CONFIRM_SECONDS: Final = 0.5
"""What another process may take to confirm what it is submitting with the same key just now."""

_LOOK_AGAIN_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Identity:
    """The id that a keyed submission has, and a fingerprint of what it asks for."""

    id: str
    fingerprint: str

    def check(self, fingerprint: str | None) -> None:
        """Compare with what the key was first used for.

        Raises:
            IdempotencyKeyReused: that was something else.

        """
        if fingerprint != self.fingerprint:
            raise IdempotencyKeyReused(self.id)


class Accepted(NamedTuple):
    """A job that the broker has; `replayed` if an earlier request had submitted it."""

    record: JobRecord
    replayed: bool


class KeyedSubmitter:
    """Submits jobs that have a key."""

    def __init__(
        self, store: JobStore, publisher: Publisher, commits: GroupCommit, reconciler: Reconciler
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._commits = commits
        self._reconciler = reconciler
        self._calls: SharedCalls[Accepted] = SharedCalls()

    async def submit(self, record: JobRecord, identity: Identity) -> Accepted:
        """Accept a job, or the one that its key stands for already; the broker has it then.

        Raises:
            ApiError: it was not accepted, as `Submitter.submit` says.

        """
        accepted, is_shared = await self._calls.join(record.id, partial(self._submit, record))
        identity.check(accepted.record.fingerprint)
        return Accepted(accepted.record, accepted.replayed or is_shared)

    async def _submit(self, record: JobRecord) -> Accepted:
        deadline = self._publisher.deadline()
        while True:
            if await self._commits.submit(record):
                await note_confirmed(self._store, record.id, record.expires_at)
                return Accepted(record, replayed=False)
            try:
                return await self._replay(record, deadline)
            except JobNotFound:
                continue  # it was refused and its record deleted this very moment

    async def _replay(self, record: JobRecord, deadline: float) -> Accepted:
        """Make sure that the broker has a job whose record an earlier request has written."""
        known = (await self._store.snapshot(record.id)).record
        same = known.fingerprint == record.fingerprint
        if same and not await self._is_with_broker(known):
            # Published twice it would still be one job: workers know that it has ended.
            await self._publish(known, deadline)
            await self._store.create(known)  # who was refused meanwhile may have deleted it
            await note_confirmed(self._store, known.id, known.expires_at)
        return Accepted(known, replayed=True)

    async def _is_with_broker(self, record: JobRecord) -> bool:
        """Return whether a job is known to have reached the broker, or does so in a moment."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _OTHERS_CONFIRM_SECONDS
        while not await self._store.is_confirmed(record.id):
            if await self._has_begun(record) or loop.time() > give_up:
                break
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        else:
            return True
        return await self._has_begun(record)

    async def _has_begun(self, record: JobRecord) -> bool:
        return (await self._store.snapshot(record.id)).status.state.has_begun

    async def _publish(self, record: JobRecord, deadline: float) -> None:
        try:
            await self._publisher.publish(record, deadline)
        except OutcomeUnknown as exc:
            await self._reconciler.reconcile([(record, exc)])
            raise
