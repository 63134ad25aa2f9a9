"""Waiting until all jobs of a batch have ended, however many jobs and clients there are.

A process has one subscription for each batch that is waited for, and one follower: it crosses off
the jobs whose ends are announced, and reads the batch when none is left.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from api.batches.states import BatchStates, BatchStatus
from api.store.changes import StateChanges
from contracts.records import ends_channel

_LOOK_AGAIN_SECONDS: Final = 5.0
"""Ends that nobody announces, as workers of the version before do not, are seen after this."""
_PAUSE_SECONDS: Final = 0.1
"""Between readings of a batch that has no open job while its items still come in."""


@dataclass(slots=True, eq=False)
class _Follower:
    """Follows one batch to its end, for all who wait."""

    end: "asyncio.Task[BatchStatus]"
    waiters: int = 0


class _Ends:
    """The jobs that are known to be open, less those whose ends were announced."""

    def __init__(self) -> None:
        self.none_left = asyncio.Event()
        self._open_ids: set[str] | None = None
        self._heard: set[str] = set()

    def forget(self) -> None:
        """Begin anew: the batch is about to be read."""
        self.none_left.clear()
        self._open_ids = None
        self._heard.clear()

    def know(self, open_ids: set[str]) -> None:
        """Take over what was read; what was announced meanwhile may not have been seen."""
        self._open_ids = open_ids - self._heard
        if not self._open_ids:
            self.none_left.set()

    def hear(self, message: bytes | None) -> None:
        """Cross off a job; None means that some may have been missed."""
        if message is None:
            self.none_left.set()
        elif self._open_ids is None:
            self._heard.add(message.decode())
        else:
            self._open_ids.discard(message.decode())
            if not self._open_ids:
                self.none_left.set()


class BatchWaits:
    """Keeps clients waiting for batches."""

    def __init__(self, changes: StateChanges, states: BatchStates) -> None:
        self._changes = changes
        self._states = states
        self._followers: dict[str, _Follower] = {}

    async def wait(self, batch_id: str, seconds: float) -> BatchStatus:
        """Return a batch once all of its jobs have ended, or time is up.

        Raises:
            BatchNotFound: there is none.
            ResultsUnavailable: Redis does not answer in time.

        """
        if seconds <= 0:
            return await self._states.read(batch_id)
        try:
            async with asyncio.timeout(seconds), self._followed(batch_id) as end:
                return await asyncio.shield(end)
        except TimeoutError:
            return await self._states.read(batch_id)

    @asynccontextmanager
    async def _followed(self, batch_id: str) -> AsyncIterator["asyncio.Task[BatchStatus]"]:
        follower = self._followers.get(batch_id)
        if follower is None or follower.end.done():
            follower = _Follower(asyncio.create_task(self._follow(batch_id)))
            self._followers[batch_id] = follower
        follower.waiters += 1
        try:
            yield follower.end
        finally:
            follower.waiters -= 1
            if not follower.waiters:
                follower.end.cancel()
                if self._followers.get(batch_id) is follower:
                    del self._followers[batch_id]

    async def _follow(self, batch_id: str) -> BatchStatus:
        ends = _Ends()
        async with self._changes.listen([ends_channel(batch_id)], ends.hear):
            while True:
                ends.forget()
                status = await self._states.read(batch_id)
                if status.state.is_terminal:
                    return status
                ends.know(status.open_ids)
                await asyncio.sleep(_PAUSE_SECONDS if not status.open_ids else 0)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                        await ends.none_left.wait()
