"""Publishing to RabbitMQ from the event loop: confirmed, mandatory, bounded in time.

Celery builds the messages; aiormq carries them, because it never blocks the loop and lets many
publishes wait for their confirms at once on one channel.
"""

import asyncio
import logging
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple, cast

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.channel import Channel
from aiormq.exceptions import (
    AMQPError,
    ChannelInvalidStateError,
    DeliveryError,
    PublishError,
)
from celery import Celery
from kombu.transport.native_delayed_delivery import MAX_LEVEL, calculate_routing_key, level_name
from pamqp.commands import Basic

from api.errors import BrokerUnavailable, LaneFull, OutcomeUnknown
from contracts.lanes import JOBS, declare_topology
from contracts.records import JobRecord
from contracts.tasks import CATALOGUE
from contracts.wire import PERSISTENT, build_message

_DELAY_EXCHANGE: Final = level_name(MAX_LEVEL)
_LOST_CONNECTION = (AMQPError, ChannelInvalidStateError, ConnectionError, OSError)

logger = logging.getLogger(__name__)


class LiveCount(NamedTuple):
    """Messages that wait in a queue, and its consumers."""

    ready: int
    consumers: int


class Publisher:
    """One connection and one channel, opened when needed and again after a loss."""

    def __init__(self, celery: Celery, timeout_seconds: float) -> None:
        self._celery = celery
        self._timeout_seconds = timeout_seconds
        self._connection: AbstractConnection | None = None
        self._opening: asyncio.Task[Channel] | None = None
        self._declaring: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect, so that the first job need not wait for the topology's declaration."""
        self._opening = asyncio.create_task(self._open())

    async def publish(self, record: JobRecord, now: datetime) -> None:
        """Publish a job's first stage and return once the broker has confirmed it.

        Raises:
            BrokerUnavailable: it was not sent, or no queue took it.
            LaneFull: the queue refused it.
            OutcomeUnknown: it was sent and no confirm came in time.

        """
        deadline = asyncio.get_running_loop().time() + self._timeout_seconds
        channel = await self._channel(deadline)
        message = build_message(self._celery, record)
        exchange, routing_key = _address(record, now)
        try:
            async with asyncio.timeout_at(deadline):
                await channel.basic_publish(
                    message.body,
                    exchange=exchange,
                    routing_key=routing_key,
                    properties=Basic.Properties(
                        headers=message.headers,
                        content_type=message.content_type,
                        content_encoding=message.content_encoding,
                        correlation_id=message.correlation_id,
                        delivery_mode=PERSISTENT,
                        message_id=record.id,
                        timestamp=record.submitted_at,
                    ),
                    mandatory=True,
                    wait=False,  # else each publish would hold the channel until the socket drains
                )
        except PublishError as exc:
            self._declare_again()
            raise BrokerUnavailable(f"No queue takes {routing_key!r}: it is not declared.") from exc
        except DeliveryError as exc:
            raise LaneFull(f"The queue {record.lane!r} refused the job: it is full.") from exc
        except (TimeoutError, *_LOST_CONNECTION) as exc:
            raise OutcomeUnknown(record.id) from exc

    async def ping(self) -> None:
        """Open the channel if it is not open.

        Raises:
            BrokerUnavailable: it can't be opened in time.

        """
        await self._channel(asyncio.get_running_loop().time() + self._timeout_seconds)

    async def count_queues(self, names: Sequence[str]) -> dict[str, LiveCount]:
        """Return what waits in queues and who consumes them, as of this moment.

        Raises:
            BrokerUnavailable: RabbitMQ does not answer in time, or a queue is missing.

        """
        deadline = asyncio.get_running_loop().time() + self._timeout_seconds
        connection = (await self._channel(deadline)).connection
        try:
            async with asyncio.timeout_at(deadline):
                # A channel of its own: asking for a queue that is missing closes the channel.
                channel = await connection.channel(publisher_confirms=False)
                counts = {name: await _count(channel, name) for name in names}
                await channel.close()
        except (TimeoutError, *_LOST_CONNECTION) as exc:
            reason = str(exc) or "no answer in time"
            raise BrokerUnavailable(f"The queues can't be counted: {reason}.") from exc
        return counts

    async def close(self) -> None:
        """Close the connection."""
        if self._opening:
            self._opening.cancel()
        if self._connection:
            await self._connection.close()

    async def _channel(self, deadline: float) -> Channel:
        if self._opening is None or _is_lost(self._opening):
            self._opening = asyncio.create_task(self._open())
        try:
            async with asyncio.timeout_at(deadline):
                # Shielded: who gives up waiting must not cancel it for the others.
                return await asyncio.shield(self._opening)
        except TimeoutError as exc:
            raise BrokerUnavailable("RabbitMQ does not answer; nothing was queued.") from exc
        except _LOST_CONNECTION as exc:
            reason = str(exc) or type(exc).__name__
            raise BrokerUnavailable(f"RabbitMQ refused: {reason}; nothing was queued.") from exc

    async def _open(self) -> Channel:
        # Declared anew with each connection: the broker may have come back empty.
        await asyncio.to_thread(self._declare)
        if self._connection:
            await self._connection.close()
        self._connection = await aiormq.connect(self._celery.conf.broker_url)
        logger.info("connected to RabbitMQ")
        channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        return cast("Channel", channel)  # the abstract type does not know `wait`

    def _declare_again(self) -> None:
        """Bring back, in the background, what somebody has deleted: the next job will find it."""
        if self._declaring is None or self._declaring.done():
            self._declaring = asyncio.create_task(asyncio.to_thread(self._declare))

    def _declare(self) -> None:
        with self._celery.connection_for_write(connect_timeout=self._timeout_seconds) as connection:
            connection.connect()
            declare_topology(connection)


async def _count(channel: AbstractChannel, name: str) -> LiveCount:
    declared = await channel.queue_declare(name, passive=True)
    return LiveCount(declared.message_count or 0, declared.consumer_count or 0)


def _address(record: JobRecord, now: datetime) -> tuple[str, str]:
    """Return exchange and routing key: by way of the broker's delay queues for a later start."""
    queue = CATALOGUE[record.stages[0].task].lane.queue_name
    if record.run_at is None or record.run_at <= now:
        return JOBS.name, queue
    delay_seconds = math.ceil((record.run_at - now).total_seconds())
    return _DELAY_EXCHANGE, calculate_routing_key(delay_seconds, queue)


def _is_lost(opening: "asyncio.Task[Channel]") -> bool:
    if not opening.done():
        return False
    return opening.cancelled() or opening.exception() is not None or opening.result().is_closed
