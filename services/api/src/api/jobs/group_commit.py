"""Group commit: what is submitted at the same time is recorded and published together.

One round trip to Redis writes the records of a group, one write to RabbitMQ sends its messages,
and the next group does not wait for the confirms of the one before. Who submits alone is a group of
one and waits for nobody.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from api.broker.confirms import Outgoing
from api.broker.publisher import Publisher
from api.errors.types import ApiError, Overloaded, ResultsUnavailable
from api.jobs.reconciliation import Reconciler
from api.store.jobs import JobStore
from contracts.records import JobRecord

_GROUP: Final = 256
MAX_WAITING: Final = 4_096
"""Submissions that wait for their group: more than a second's, at the pace of one process."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A job that waits to be committed, and what its client is told: whether it is new."""

    record: JobRecord
    deadline: float
    answer: "asyncio.Future[bool]"

    def answer_with(self, *, is_new: bool) -> None:
        if not self.answer.done():  # its request may have been cancelled
            self.answer.set_result(is_new)

    def refuse(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class GroupCommit:
    """Commits jobs: recorded, then confirmed by the broker."""

    def __init__(self, store: JobStore, publisher: Publisher, reconciler: Reconciler) -> None:
        self._store = store
        self._publisher = publisher
        self._reconciler = reconciler
        self._waiting: list[_Waiting] = []
        self._is_committing = False
        self._refused: list[tuple[_Waiting, ApiError]] = []
        self._working: set[asyncio.Task[None]] = set()

    async def submit(self, record: JobRecord) -> bool:
        """Commit a job with whatever others are waiting; return False if it was recorded before.

        What was recorded before under an Idempotency-Key is not published again.

        Raises:
            Overloaded, BrokerUnavailable, LaneFull: nothing was queued and no record is left.
            OutcomeUnknown: the record is kept, and the job runs or fails later.
            ResultsUnavailable: nothing was queued.

        """
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(MAX_WAITING)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(record, self._publisher.deadline(), answer))
        if not self._is_committing:
            self._is_committing = True
            self._work(self._commit_all())
        return await answer

    async def close(self) -> None:
        """Return when nothing waits for its group and all refusals have been told."""
        while self._working:
            await asyncio.wait(self._working)

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:_GROUP], self._waiting[_GROUP:]
                wanted = [job for job in group if not job.answer.done()]  # some may have gone
                if wanted:
                    await self._commit(wanted)
        finally:
            self._is_committing = False

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        deadline = group[0].deadline  # that of who has waited longest
        try:
            await self._publisher.ready(deadline)
            new = await self._record(group, deadline)
            jobs = [Outgoing(job.record, partial(self._told, job)) for job in new]
            await self._publisher.send(jobs, deadline)
        except Exception as exc:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            for job in group:
                job.refuse(exc)

    async def _record(self, group: Sequence[_Waiting], deadline: float) -> list[_Waiting]:
        """Write the records; return the jobs that are to be published."""
        try:
            async with asyncio.timeout_at(deadline):
                are_new = await self._store.create_many([job.record for job in group])
        except TimeoutError as exc:
            raise ResultsUnavailable("Redis did not answer in time.") from exc
        to_publish = []
        for job, is_new in zip(group, are_new, strict=True):
            # Without a key it can't be known from before: Redis was asked twice.
            if is_new or job.record.fingerprint is None:
                to_publish.append(job)
            else:
                job.answer_with(is_new=False)
        return to_publish

    def _told(self, job: _Waiting, error: ApiError | None) -> None:
        if error is None:
            job.answer_with(is_new=True)
            return
        if not self._refused:
            asyncio.get_running_loop().call_soon(self._refuse_soon)
        self._refused.append((job, error))

    def _refuse_soon(self) -> None:
        refused, self._refused = self._refused, []
        self._work(self._refuse(refused))

    async def _refuse(self, refused: Sequence[tuple[_Waiting, ApiError]]) -> None:
        try:
            await self._reconciler.reconcile([(job.record, error) for job, error in refused])
        finally:
            for job, error in refused:
                job.refuse(error)

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
