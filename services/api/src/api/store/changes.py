"""Waiting without polling: Redis announces every change of a task to one subscription a process.

Each state that is stored is published afterwards on a channel named like its key. One connection
per API process listens; whoever watches tasks is woken by their names. Subscriptions that come
while others are being confirmed share the next command.

The connection is a plain one of redis-py rather than its `PubSub`: that one connects anew inside
whichever call notices a loss, and two tasks that notice it at once break each other. Here a
connection that is lost, or silent, is thrown away, and the next one begins from nothing.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Final, TypeAlias

from redis.asyncio.connection import AbstractConnection

from api.concurrency import stop_task, wait_for_event
from api.errors.types import ResultsUnavailable
from api.store.redis import RedisClient
from contracts.keys import meta_key
from contracts.states import PROGRESS_STATE, RETRY_STATE, STARTED_STATE

Listener: TypeAlias = Callable[[bytes | None], None]
"""Is called with each message, and with None when messages may have been missed."""

_RECONNECT_SECONDS: Final = 0.25
_PING_SECONDS: Final = 30.0
"""Between questions whether the connection is alive, while there is nothing else to send."""
_ANSWER_SECONDS: Final = 2.0
"""A connection that leaves a command without an answer for so long is given up."""
_SUBSCRIBE_SECONDS: Final = 1.0
_PONG: Final = "PONG"
_YIELD_EVERY: Final = 50
"""Messages handled before other requests go on: a few milliseconds' worth."""
_NO_END: Final = re.compile(
    rf'\s*{{\s*"status":\s*"(?:{STARTED_STATE}|{PROGRESS_STATE}|{RETRY_STATE})"'.encode()
)

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Channel:
    """A channel that somebody listens to, and whether Redis has confirmed it."""

    confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    listeners: set[Listener] = field(default_factory=set)

    def notify(self, message: bytes | None) -> None:
        for listener in list(self.listeners):
            listener(message)


class StateChanges:
    """Wakes waiters when one of their tasks changes, and all of them after a lost connection."""

    def __init__(self, redis: RedisClient) -> None:
        self._pool = redis.client.connection_pool
        self._channels: dict[str, _Channel] = {}
        self._subscribed: set[str] = set()
        """What Redis has confirmed, on this connection."""
        self._changed: set[str] = set()
        """Channels that are to be subscribed to or left with the next command."""
        self._unanswered: set[str] = set()
        self._is_answered = asyncio.Event()
        self._wake_sender = asyncio.Event()
        self._is_lost = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start listening, on the running event loop."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop listening."""
        if self._task:
            await stop_task(self._task)

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

        def wake(message: bytes | None) -> None:
            if not (until_end and message and _NO_END.match(message)):
                event.set()

        async with self.listen(map(meta_key, task_ids), wake):
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

    # --- one connection after the other ---

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except Exception as exc:  # noqa: BLE001 - whatever it is: nobody else connects again
                if not self._is_lost:
                    logger.warning("lost the subscription to Redis, trying again: %s", exc)
                self._is_lost = True
            for channel in list(self._channels.values()):
                channel.notify(None)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        """Subscribe to what is wanted, and pass it on, until the connection is lost."""
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        tasks: list[asyncio.Task[None]] = []
        try:
            await connection.connect()
            self._is_lost = False
            self._subscribed.clear()
            self._changed |= self._channels.keys()
            self._wake_sender.set()
            tasks += map(asyncio.create_task, (self._send(connection), self._receive(connection)))
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await connection.disconnect(nowait=True)

    # --- what is subscribed to ---

    def _change(self, name: str) -> None:
        self._changed.add(name)
        self._wake_sender.set()

    async def _send(self, connection: AbstractConnection) -> None:
        """Subscribe and unsubscribe, one command at a time: what comes meanwhile shares the next.

        A confirmation so belongs to the last command that named its channel.
        """
        while True:
            await wait_for_event(self._wake_sender, _PING_SECONDS)
            self._wake_sender.clear()
            await self._send_changes(connection)
            if not await wait_for_event(self._is_answered, _ANSWER_SECONDS):
                raise TimeoutError(f"no answer within {_ANSWER_SECONDS:g} s")

    async def _send_changes(self, connection: AbstractConnection) -> None:
        names, self._changed = self._changed, set()
        for name in names & self._channels.keys() & self._subscribed:
            self._channels[name].confirmed.set()  # left and wanted again before Redis knew
        fresh = [n for n in names if n in self._channels and n not in self._subscribed]
        unused = [n for n in names if n not in self._channels and n in self._subscribed]
        self._unanswered = {*fresh, *unused} or {_PONG}
        self._is_answered.clear()
        if fresh:
            await connection.send_command("SUBSCRIBE", *fresh, check_health=False)
        if unused:
            await connection.send_command("UNSUBSCRIBE", *unused, check_health=False)
        if not fresh and not unused:
            await connection.send_command("PING", check_health=False)

    def _confirm(self, name: str) -> None:
        """Note Redis' answer about a channel, and go on when it has answered about all."""
        if (name in self._channels) != (name in self._subscribed):
            self._change(name)  # it is wanted no more, or again
        self._answer(name)

    def _answer(self, name: str) -> None:
        self._unanswered.discard(name)
        if not self._unanswered:
            self._is_answered.set()

    # --- what is received ---

    async def _receive(self, connection: AbstractConnection) -> None:
        count = 0
        while True:
            answer = await connection.read_response(timeout=inf, push_request=True)
            match answer:
                case [kind, bytes(name), data]:
                    self._take(kind, name.decode(), data)
                case _:
                    self._answer(_PONG)
            count += 1
            if count % _YIELD_EVERY == 0:
                await asyncio.sleep(0)

    def _take(self, kind: bytes, name: str, data: bytes) -> None:
        channel = self._channels.get(name)
        if kind == b"message" and channel:
            channel.notify(data)
        elif kind == b"subscribe":
            self._subscribed.add(name)
            if channel and channel.confirmed.is_set():
                channel.notify(None)  # it was confirmed to an earlier connection: there was a gap
            elif channel:
                channel.confirmed.set()
            self._confirm(name)
        elif kind == b"unsubscribe":
            self._subscribed.discard(name)
            self._confirm(name)
