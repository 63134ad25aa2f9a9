"""Waiting without polling: Redis announces every change of a task, one subscription hears it.

Each state that is stored is published afterwards on a channel named like its key. One connection
per API process listens; whoever watches tasks is woken by their names. Subscriptions that come
while others are being confirmed share the next command.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.errors import ResultsUnavailable
from contracts.records import PROGRESS_STATE, RETRY_STATE, STARTED_STATE, meta_key

Listener: TypeAlias = Callable[[bytes | None], None]
"""Is called with each message, and with None when messages may have been missed."""

_RECONNECT_SECONDS: Final = 1.0
_LISTEN_SECONDS: Final = 30.0
_SUBSCRIBE_SECONDS: Final = 1.0
_IDLE_CHANNEL: Final = "twinlane:idle"
"""Keeps the connection subscribed while nobody waits."""
_TURN: Final = 50
"""Messages handled before others get a turn: a few milliseconds' worth."""
_NO_END: Final = re.compile(
    rf'\s*{{\s*"status":\s*"(?:{STARTED_STATE}|{PROGRESS_STATE}|{RETRY_STATE})"'.encode()
)

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Channel:
    """A channel that somebody listens to, and whether Redis has confirmed it."""

    confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    listeners: set[Listener] = field(default_factory=set)


class StateChanges:
    """Wakes waiters when one of their tasks changes, and all of them after a lost connection."""

    def __init__(self, redis: Redis) -> None:
        self._pubsub = redis.pubsub()
        self._channels: dict[str, _Channel] = {}
        self._subscribed: set[str] = set()
        """What Redis has confirmed."""
        self._changed: set[str] = set()
        """Channels that are to be subscribed to or left with the next command."""
        self._unconfirmed: set[str] = set()
        self._is_connected = False
        self._wake_sender = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start listening, on the running event loop."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._send())]

    async def close(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    @asynccontextmanager
    async def watch(
        self, task_ids: Sequence[str], *, until_end: bool = False
    ) -> AsyncIterator[asyncio.Event]:
        """Yield an event that is set when any of the tasks changes, or only when one has ended.

        Read the state after entering: what changed before is not announced.

        Raises:
            ResultsUnavailable: Redis does not confirm the subscription in time.

        """
        event = asyncio.Event()

        def hear(message: bytes | None) -> None:
            if not (until_end and message and _NO_END.match(message)):
                event.set()

        async with self.listen(map(meta_key, task_ids), hear):
            yield event

    @asynccontextmanager
    async def listen(self, names: Iterable[str], listener: Listener) -> AsyncIterator[None]:
        """Have a listener called with what is published on some channels.

        Raises:
            ResultsUnavailable: Redis does not confirm the subscription in time.

        """
        names = list(names)
        try:
            await self._join(names, listener)
            yield
        finally:
            self._leave(names, listener)

    async def _join(self, names: Sequence[str], listener: Listener) -> None:
        channels = [self._channels.setdefault(name, _Channel()) for name in names]
        for name, channel in zip(names, channels, strict=True):
            channel.listeners.add(listener)
            if not channel.confirmed.is_set():
                self._change(name)
        try:
            async with asyncio.timeout(_SUBSCRIBE_SECONDS):
                for channel in channels:
                    await channel.confirmed.wait()
        except TimeoutError as exc:
            raise ResultsUnavailable("Redis does not confirm a subscription in time.") from exc

    def _leave(self, names: Sequence[str], listener: Listener) -> None:
        for name in names:
            self._channels[name].listeners.discard(listener)
            if not self._channels[name].listeners:
                del self._channels[name]
                self._change(name)

    # --- what is subscribed to ---

    def _change(self, name: str) -> None:
        self._changed.add(name)
        self._wake_sender.set()

    async def _send(self) -> None:
        """Subscribe and unsubscribe, one command at a time: what comes meanwhile shares the next.

        A confirmation so belongs to the last command that named its channel.
        """
        while True:
            await self._wake_sender.wait()
            self._wake_sender.clear()
            if self._unconfirmed or not self._is_connected:
                continue  # woken again by the last confirmation, or the next connection
            names, self._changed = self._changed, set()
            for name in names & self._channels.keys() & self._subscribed:
                self._channels[name].confirmed.set()  # left and wanted again before it was told
            fresh = [n for n in names if n in self._channels and n not in self._subscribed]
            unused = [n for n in names if n not in self._channels and n in self._subscribed]
            self._unconfirmed = {*fresh, *unused}
            try:
                if fresh:
                    await self._pubsub.subscribe(*fresh)
                if unused:
                    await self._pubsub.unsubscribe(*unused)
            except (RedisError, OSError):
                self._changed |= self._unconfirmed
                self._unconfirmed = set()
                await asyncio.sleep(_RECONNECT_SECONDS)
                self._wake_sender.set()

    def _confirm(self, name: str) -> None:
        """Note what Redis says of a channel, and go on when it has said it of all."""
        if (name in self._channels) != (name in self._subscribed):
            self._changed.add(name)  # it is wanted no more, or again
        self._unconfirmed.discard(name)
        if self._changed and not self._unconfirmed:
            self._wake_sender.set()

    # --- what is heard ---

    async def _listen(self) -> None:
        while True:
            try:
                await self._pubsub.subscribe(_IDLE_CHANNEL)
                self._begin_anew()
                await self._hear_all()
            except (RedisError, OSError) as exc:
                logger.warning("lost the subscription to Redis, again in a second: %s", exc)
                self._is_connected = False
                self._tell_all_of_a_gap()
                await asyncio.sleep(_RECONNECT_SECONDS)

    def _begin_anew(self) -> None:
        """Ask for everything: of what was sent to an earlier connection, nothing is sure."""
        self._is_connected = True
        self._subscribed.clear()
        self._unconfirmed.clear()
        self._changed |= self._channels.keys()
        self._wake_sender.set()

    async def _hear_all(self) -> None:
        heard = 0
        while True:
            message = await self._pubsub.get_message(timeout=_LISTEN_SECONDS)
            if message:
                self._hear(message["type"], message["channel"].decode(), message["data"])
            heard += 1
            if heard % _TURN == 0:
                await asyncio.sleep(0)

    def _hear(self, kind: str, name: str, data: bytes) -> None:
        channel = self._channels.get(name)
        if kind == "message" and channel:
            _tell(channel, data)
        elif kind == "subscribe":
            self._subscribed.add(name)
            if channel and channel.confirmed.is_set():
                _tell(channel, None)  # redis-py has connected again: there was a gap
            elif channel:
                channel.confirmed.set()
            self._confirm(name)
        elif kind == "unsubscribe":
            self._subscribed.discard(name)
            self._confirm(name)

    def _tell_all_of_a_gap(self) -> None:
        for channel in list(self._channels.values()):
            _tell(channel, None)


def _tell(channel: _Channel, message: bytes | None) -> None:
    for listener in list(channel.listeners):
        listener(message)
