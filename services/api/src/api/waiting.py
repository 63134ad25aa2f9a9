"""Waiting without polling: Redis announces every change of a task, one subscription hears it.

Celery's Redis backend publishes each state it stores on a channel named like the key. One
connection per API process listens; waiters are woken by the names of the tasks they watch.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.errors import ResultsUnavailable
from contracts.records import meta_key

_RECONNECT_SECONDS: Final = 1.0
_LISTEN_SECONDS: Final = 30.0
_SUBSCRIBE_SECONDS: Final = 1.0
_IDLE_CHANNEL: Final = "twinlane:idle"
"""Keeps the connection subscribed while nobody waits."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Channel:
    """One subscribed channel: whether Redis has confirmed it, and whom to wake."""

    ready: asyncio.Event = field(default_factory=asyncio.Event)
    waiters: set[asyncio.Event] = field(default_factory=set)


class StateChanges:
    """Wakes waiters when one of their tasks changes, and all of them after a lost connection."""

    def __init__(self, redis: Redis) -> None:
        self._pubsub = redis.pubsub()
        self._channels: dict[str, _Channel] = {}
        self._listener: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start listening, on the running event loop."""
        self._listener = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """Stop listening."""
        if self._listener:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    @asynccontextmanager
    async def watch(self, task_ids: Sequence[str]) -> AsyncIterator[asyncio.Event]:
        """Yield an event that is set when any of the tasks changes.

        Read the state after entering: what changed before is not announced.

        Raises:
            ResultsUnavailable: Redis does not confirm the subscription in time.

        """
        event = asyncio.Event()
        names = [meta_key(task_id) for task_id in task_ids]
        try:
            await self._join(names, event)
            yield event
        finally:
            await self._leave(names, event)

    async def _join(self, names: Sequence[str], event: asyncio.Event) -> None:
        fresh = [name for name in names if name not in self._channels]
        for name in names:
            self._channels.setdefault(name, _Channel()).waiters.add(event)
        try:
            async with asyncio.timeout(_SUBSCRIBE_SECONDS):
                if fresh:
                    await self._pubsub.subscribe(*fresh)
                for name in names:
                    await self._channels[name].ready.wait()
        except (TimeoutError, RedisError, OSError) as exc:
            raise ResultsUnavailable("Redis does not confirm a subscription in time.") from exc

    async def _leave(self, names: Sequence[str], event: asyncio.Event) -> None:
        for name in names:
            self._channels[name].waiters.discard(event)
        unused = [name for name in names if not self._channels[name].waiters]
        for name in unused:
            del self._channels[name]
        if unused:
            try:
                await self._pubsub.unsubscribe(*unused)
            except (RedisError, OSError):
                logger.debug("unsubscribe failed: the lost connection has done it")

    async def _listen(self) -> None:
        while True:
            try:
                await self._pubsub.subscribe(_IDLE_CHANNEL, *self._channels)
                while True:
                    message = await self._pubsub.get_message(timeout=_LISTEN_SECONDS)
                    if message:
                        self._hear(message["type"], message["channel"].decode())
            except (RedisError, OSError) as exc:
                logger.warning("lost the subscription to Redis, again in a second: %s", exc)
                self._wake_all()
                await asyncio.sleep(_RECONNECT_SECONDS)

    def _hear(self, kind: str, name: str) -> None:
        channel = self._channels.get(name)
        if channel is None:
            return
        if kind == "subscribe":
            channel.ready.set()
        elif kind == "message":
            for event in channel.waiters:
                event.set()

    def _wake_all(self) -> None:
        for channel in self._channels.values():
            for event in channel.waiters:
                event.set()
