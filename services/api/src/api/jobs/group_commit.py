"""Group commit: what is submitted at the same time is recorded and published together.

One round trip to Redis writes the records of a group, one write to RabbitMQ sends its messages,
and the next group does not wait for the confirms of the one before. Who submits alone is a group of
one and waits for nobody.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from api.broker.pending_job import PendingJob
from api.broker.publisher import Publisher
from api.concurrency import BackgroundTasks, GroupQueue
from api.errors.types import ApiError, Overloaded, ResultsUnavailable
from api.jobs.reconciliation import Reconciler
from api.store.jobs import JobStore
from contracts.records import JobRecord

_GROUP: Final = 256
MAX_WAITING: Final = 4_096
"""Submissions that wait for their group: more than a second's, at the pace of one process."""


class GroupCommit:
    """Commits jobs: recorded, then confirmed by the broker."""

    def __init__(self, store: JobStore, publisher: Publisher, reconciler: Reconciler) -> None:
        self._store = store
        self._publisher = publisher
        self._reconciler = reconciler
        self._queue = GroupQueue(self._commit, _GROUP)
        self._refused: list[tuple[PendingJob, ApiError]] = []
        self._background = BackgroundTasks()

    async def submit(self, record: JobRecord) -> bool:
        """Commit a job with whatever others are waiting; return False if it was recorded before.

        What was recorded before under an Idempotency-Key is not published again.

        Raises:
            Overloaded, BrokerUnavailable, LaneFull: nothing was queued and no record is left.
            OutcomeUnknown: the record is kept, and the job runs or fails later.
            ResultsUnavailable: nothing was queued.

        """
        if len(self._queue) >= MAX_WAITING:
            raise Overloaded(MAX_WAITING)
        job = PendingJob(record, self._publisher.deadline(), on_refusal=self._refuse)
        self._queue.put(job)
        if error := await job.outcome:
            raise error
        return job.is_new

    async def close(self) -> None:
        """Return when nothing waits for its group and all refusals have been reconciled."""
        await self._queue.close()
        await self._background.wait()

    async def _commit(self, group: Sequence[PendingJob]) -> None:
        """Record the jobs and send them; return when the next group may be."""
        wanted = [job for job in group if not job.outcome.done()]  # some may have gone
        try:
            if wanted and (to_send := await self._record(wanted)):
                await self._publisher.send(to_send)
        except Exception as exc:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            for job in wanted:
                job.fail(exc)

    async def _record(self, jobs: Sequence[PendingJob]) -> list[PendingJob]:
        """Write the records once jobs can be published; return the jobs that are to be."""
        deadline = jobs[0].deadline  # that of who has waited longest
        await self._publisher.ready(deadline)
        try:
            async with asyncio.timeout_at(deadline):
                are_new = await self._store.create_many([job.record for job in jobs])
        except TimeoutError as exc:
            raise ResultsUnavailable("Redis did not answer in time.") from exc
        to_send = []
        for job, is_new in zip(jobs, are_new, strict=True):
            # Without a key it can't be known from before: Redis was asked twice.
            if is_new or job.record.fingerprint is None:
                to_send.append(job)
            else:
                job.is_new = False
                job.resolve(None)
        return to_send

    def _refuse(self, job: PendingJob, error: ApiError) -> None:
        if not self._refused:  # one task begins after this, with all that are refused by then
            self._background.start(self._reconcile())
        self._refused.append((job, error))

    async def _reconcile(self) -> None:
        refused, self._refused = self._refused, []
        try:
            await self._reconciler.reconcile([(job.record, error) for job, error in refused])
        finally:
            for job, error in refused:
                job.resolve(error)
