"""The connection that jobs are published on: opened when needed, and again after a loss."""

import asyncio
import logging
import math
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from celery import Celery
from kombu import Queue

from api.broker.channel import ConfirmChannel
from api.broker.confirms import Alarms, Window
from api.broker.connection import LOST_CONNECTION, AmqpConnection, losses_as_errors
from api.errors.types import BrokerUnavailable
from contracts.lanes import DEAD_LETTER_NOTICES, DEAD_LETTERS, declare_topology

_OPEN_SECONDS: Final = 5.0
"""What opening may take; those who wait for it give up sooner."""

_RENEWAL_SECONDS: Final = 10.0

_READY_SECONDS: Final = 0.1
"""What a blocked connection is given to be unblocked: nothing is gained by waiting for memory."""

_WINDOW: Final = 8_192
"""Jobs that wait for their confirms at the same time: more than come in the time that a job waits
at most, so that one queue's silence does not keep the other lane's jobs from being sent."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Link:
    """An open connection with the channel that publishes on it."""

    connection: AmqpConnection
    channel: ConfirmChannel


class BrokerLink:
    """One connection and one channel; `timeout_seconds` is what those who wait for it may wait."""

    def __init__(self, celery: Celery, timeout_seconds: float) -> None:
        self._celery = celery
        self._timeout_seconds = timeout_seconds
        self._opening: asyncio.Task[Link] | None = None
        self._latest: Link | None = None
        self._declaring: asyncio.Task[None] | None = None
        self._next_renewal = 0.0
        self._background: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to connect, so that the first job need not wait for the topology's declaration."""
        self._opening = asyncio.create_task(self._open())

    async def ready(self, deadline: float) -> None:
        """Return if jobs can be published now.

        Raises:
            BrokerUnavailable: RabbitMQ is away, or has stopped publishers for want of memory or
                disk.

        """
        link = await self.get(deadline)
        if await _is_blocked(link, deadline):
            raise BrokerUnavailable(
                "RabbitMQ has stopped its publishers: it is short of memory or disk space."
            )

    async def get(self, deadline: float) -> Link:
        """Return an open connection.

        Raises:
            BrokerUnavailable: there is none until the deadline.

        """
        if link := self._current():
            return link
        if self._opening is None or self._opening.done():
            if self._latest:
                self._latest.connection.abort()  # it may be that only its channel was closed
            self._opening = asyncio.create_task(self._open())
        try:
            async with asyncio.timeout_at(deadline):
                with losses_as_errors():
                    # Shielded: who gives up waiting must not cancel it for the others.
                    return await asyncio.shield(self._opening)
        except TimeoutError as exc:
            raise BrokerUnavailable("RabbitMQ does not answer; nothing was queued.") from exc
        except LOST_CONNECTION as exc:
            reason = str(exc) or type(exc).__name__
            raise BrokerUnavailable(f"RabbitMQ refused: {reason}; nothing was queued.") from exc

    async def close(self) -> None:
        """Close the connection."""
        for task in (*self._background, self._opening):
            if task and not task.done():
                task.cancel()
        if link := self._current():
            await link.connection.close()

    def _current(self) -> Link | None:
        """Return the open connection, if there is one."""
        if self._latest is None or self._latest.channel.is_closed:
            return None
        return self._latest

    async def _open(self) -> Link:
        # Declared anew with each connection: the broker may have come back empty.
        await asyncio.to_thread(self._declare, (DEAD_LETTERS, DEAD_LETTER_NOTICES))
        async with asyncio.timeout(_OPEN_SECONDS):
            connection = await AmqpConnection.open(self._celery.conf.broker_url)
            logger.info("connected to RabbitMQ")
            try:
                channel = await self._open_channel(connection)
            except BaseException:
                connection.abort()
                raise
        self._latest = Link(connection, channel)
        return self._latest

    async def _open_channel(self, connection: AmqpConnection) -> ConfirmChannel:
        alarms = Alarms(
            refused=partial(self._renew, connection),
            unroutable=self._declare_again,
            silent=partial(self._look_after, connection),
        )
        window = Window(_WINDOW, alarms)
        return await ConfirmChannel.open_on(connection.amqp, self._celery, window)

    def _look_after(self, connection: AmqpConnection) -> None:
        link = self._current()
        if link and link.connection is connection:
            self._in_background(self._give_up_unless_blocked(link))

    async def _give_up_unless_blocked(self, link: Link) -> None:
        """Drop a connection on which nothing is confirmed: the next job gets a new one.

        It may be half-open. A blocked one is alive, and stays.
        """
        if not await _is_blocked(link, math.inf):
            logger.warning("RabbitMQ confirms nothing: its connection is given up")
            link.connection.abort()

    def _renew(self, connection: AmqpConnection) -> None:
        """Have later jobs use a new channel, now and then.

        RabbitMQ 3.10 goes on refusing what comes on a channel that it has refused something on,
        when it was the queue's limit that was lifted.
        """
        now = asyncio.get_running_loop().time()
        link = self._current()
        if link and link.connection is connection and now >= self._next_renewal:
            self._next_renewal = now + _RENEWAL_SECONDS
            self._latest = None
            self._opening = asyncio.create_task(self._open())
            self._in_background(self._close_later(link))

    async def _close_later(self, link: Link) -> None:
        """Close a connection when whoever waits on it has had its time."""
        await asyncio.sleep(self._timeout_seconds)
        await link.connection.close()

    def _declare_again(self) -> None:
        """Bring back, in the background, what somebody has deleted: the next job will find it."""
        if self._declaring is None or self._declaring.done():
            self._declaring = asyncio.create_task(asyncio.to_thread(self._declare))

    def _declare(self, own: Collection[Queue] | None = None) -> None:
        with self._celery.connection_for_write(connect_timeout=self._timeout_seconds) as connection:
            connection.connect()
            declare_topology(connection, own)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _is_blocked(link: Link, deadline: float) -> bool:
    soon = asyncio.get_running_loop().time() + _READY_SECONDS
    try:
        async with asyncio.timeout_at(min(deadline, soon)):
            await link.connection.amqp.ready()
    except TimeoutError:
        return True
    return False
