"""Cancelling jobs: a durable mark first, then whatever makes it quicker."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from celery import Celery

from api.concurrency import BackgroundTasks
from api.store.jobs import JobStore
from contracts.states import REVOKED_STATE, JobState

_WAITING: Final = {JobState.SCHEDULED, JobState.QUEUED, JobState.RETRYING}
_BROADCAST_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class Canceller:
    """Cancels jobs, whether or not a worker is there."""

    def __init__(self, store: JobStore, celery: Celery) -> None:
        self._store = store
        self._celery = celery
        self._broadcasts = BackgroundTasks()

    async def close(self) -> None:
        """Let broadcasts end that are under way."""
        await self._broadcasts.wait()

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel those of the jobs that have not ended.

        The mark is written before the state is read, and a worker does it the other way round: it
        notes that it runs a job before it looks for the mark. So either it sees the mark, or we see
        it running and leave the end of the job to it.

        Raises:
            ResultsUnavailable: some may not be cancelled; it is safe to ask again.

        """
        open_jobs = [
            snapshot.record
            async for snapshot in self._store.snapshots(job_ids)
            if not snapshot.status.state.is_terminal
        ]
        await self._store.mark_cancelled(open_jobs)
        waiting = [
            (snapshot.record, snapshot.requeues)
            async for snapshot in self._store.snapshots([record.id for record in open_jobs])
            if snapshot.status.state in _WAITING
        ]
        await self._store.end_many(waiting, REVOKED_STATE, "TaskRevokedError", "cancelled")
        if task_ids := [stage.id for record in open_jobs for stage in record.stages]:
            self._broadcasts.start(asyncio.to_thread(self._revoke, task_ids))

    def _revoke(self, task_ids: list[str]) -> None:
        """Have workers drop what they have prefetched and will not run."""
        try:
            with self._celery.connection_for_write(
                connect_timeout=_BROADCAST_SECONDS
            ) as connection:
                self._celery.control.revoke(task_ids, connection=connection)
        except Exception as exc:  # noqa: BLE001 - nothing depends on it
            logger.info("a cancel could not be broadcast; workers will see its mark: %s", exc)
