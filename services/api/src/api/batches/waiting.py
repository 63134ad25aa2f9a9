"""Waiting until all jobs of a batch have ended, however many jobs and clients there are.

A process has one subscription for each batch that is waited for, and one watcher: it crosses off
the jobs whose ends are announced, and reads the batch when none is left.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from api.batches.states import BatchStates, BatchStatus
from api.concurrency import wait_for_event
from api.store.changes import StateChanges
from contracts.keys import ends_channel

_READ_AGAIN_SECONDS: Final = 5.0
"""A batch is read again after so long without its last announcement: nobody announces that a job's
record has expired or was taken back."""
_PAUSE_SECONDS: Final = 0.1
"""Between readings of a batch that has no open job while its items still come in."""


@dataclass(slots=True, eq=False)
class _BatchWatcher:
    """The task that waits for a batch's end, for all who wait for it."""

    task: asyncio.Task[BatchStatus]
    waiters: int = 0


class _OpenJobs:
    """The jobs that are known to be open, less those whose ends were announced."""

    def __init__(self) -> None:
        self.none_left = asyncio.Event()
        self._ids: set[str] | None = None
        """None while the batch is being read."""
        self._announced: set[str] = set()
        """Ends that were announced meanwhile."""

    def clear(self) -> None:
        """Begin anew: the batch is about to be read."""
        self.none_left.clear()
        self._ids = None
        self._announced.clear()

    def fill(self, ids: set[str]) -> None:
        """Take over what was read; what was announced meanwhile it may not have shown."""
        self._ids = ids - self._announced
        if not self._ids:
            self.none_left.set()

    def hear(self, message: bytes | None) -> None:
        """Cross off a job; None means that announcements may have been missed."""
        if message is None:
            self.none_left.set()
        elif self._ids is None:
            self._announced.add(message.decode())
        else:
            self._ids.discard(message.decode())
            if not self._ids:
                self.none_left.set()


class BatchWaits:
    """Keeps clients waiting for batches."""

    def __init__(self, changes: StateChanges, states: BatchStates) -> None:
        self._changes = changes
        self._states = states
        self._watchers: dict[str, _BatchWatcher] = {}

    async def wait(self, batch_id: str, seconds: float) -> BatchStatus:
        """Return a batch once all of its jobs have ended, or time is up.

        Raises:
            BatchNotFound: there is none.
            ResultsUnavailable: Redis does not answer in time.

        """
        if seconds <= 0:
            return await self._states.read(batch_id)
        try:
            async with asyncio.timeout(seconds), self._watched(batch_id) as end:
                return await asyncio.shield(end)
        except TimeoutError:
            return await self._states.read(batch_id)

    @asynccontextmanager
    async def _watched(self, batch_id: str) -> AsyncIterator[asyncio.Task[BatchStatus]]:
        """Yield the task that returns the batch at its end; it is cancelled when nobody waits."""
        watcher = self._watchers.get(batch_id)
        if watcher is None or watcher.task.done():
            watcher = _BatchWatcher(asyncio.create_task(self._watch(batch_id)))
            self._watchers[batch_id] = watcher
        watcher.waiters += 1
        try:
            yield watcher.task
        finally:
            watcher.waiters -= 1
            if not watcher.waiters:
                watcher.task.cancel()
                if self._watchers.get(batch_id) is watcher:
                    del self._watchers[batch_id]

    async def _watch(self, batch_id: str) -> BatchStatus:
        open_jobs = _OpenJobs()
        async with self._changes.listen([ends_channel(batch_id)], open_jobs.hear):
            while True:
                open_jobs.clear()
                status = await self._states.read(batch_id)
                if status.state.is_terminal:
                    return status
                open_jobs.fill(status.open_ids)
                await asyncio.sleep(_PAUSE_SECONDS if not status.open_ids else 0)
                await wait_for_event(open_jobs.none_left, _READ_AGAIN_SECONDS)
