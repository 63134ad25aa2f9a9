"""Publishing to RabbitMQ from the event loop: confirmed, mandatory, bounded in time.

Celery builds the messages; aiormq carries them, because it never blocks the loop and lets many
publishes wait for their confirms at once on one channel.
"""

import asyncio
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple, cast

from aiormq.abc import AbstractChannel
from aiormq.channel import Channel
from aiormq.exceptions import DeliveryError, PublishError
from celery import Celery
from kombu import Queue
from kombu.transport.native_delayed_delivery import MAX_LEVEL, calculate_routing_key, level_name
from pamqp.commands import Basic

from api.amqp import LOST_CONNECTION, AmqpConnection, losses_as_errors
from api.errors import ApiError, BrokerUnavailable, LaneFull, OutcomeUnknown
from contracts.lanes import DEAD_LETTER_NOTICES, DEAD_LETTERS, JOBS, declare_topology
from contracts.records import JobRecord
from contracts.tasks import CATALOGUE
from contracts.wire import PERSISTENT, JobMessage, build_message

_OPEN_SECONDS: Final = 5.0
"""What opening may take; those who wait for it give up sooner."""

_RENEWAL_SECONDS: Final = 10.0

_READY_SECONDS: Final = 0.1
"""What a blocked connection is given to be unblocked: nothing is gained by waiting for memory."""
_DELAY_EXCHANGE: Final = level_name(MAX_LEVEL)

logger = logging.getLogger(__name__)


class LiveCount(NamedTuple):
    """Messages that wait in a queue, and its consumers."""

    ready: int
    consumers: int


@dataclass(frozen=True, slots=True)
class _Link:
    """An open connection with the channel that publishes on it."""

    connection: AmqpConnection
    channel: Channel


class Publisher:
    """One connection and one channel, opened when needed and again after a loss.

    `timeout_seconds` bounds a submission as a whole: recording it, connecting, and the confirm.
    """

    def __init__(self, celery: Celery, timeout_seconds: float) -> None:
        self._celery = celery
        self._timeout_seconds = timeout_seconds
        self._opening: asyncio.Task[_Link] | None = None
        self._declaring: asyncio.Task[None] | None = None
        self._last_confirm = 0.0
        self._next_renewal = 0.0
        self._closing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect, so that the first job need not wait for the topology's declaration."""
        self._opening = asyncio.create_task(self._open())

    def deadline(self) -> float:
        """Return when a submission that begins now must be answered, in the loop's time."""
        return asyncio.get_running_loop().time() + self._timeout_seconds

    async def ready(self, deadline: float) -> None:
        """Return if jobs can be published now.

        Raises:
            BrokerUnavailable: RabbitMQ is away, or has stopped publishers for want of memory or
                disk.

        """
        link = await self._link(deadline)
        try:
            async with asyncio.timeout_at(min(deadline, _soon())):
                await link.connection.amqp.ready()
        except TimeoutError as exc:
            raise BrokerUnavailable(
                "RabbitMQ has stopped its publishers: it is short of memory or disk space."
            ) from exc

    async def publish(self, record: JobRecord, now: datetime, deadline: float) -> None:
        """Publish a job's first stage and return once the broker has confirmed it.

        Raises:
            BrokerUnavailable: it was not sent, or no queue took it.
            LaneFull: the queue refused it.
            OutcomeUnknown: it was sent and no confirm came until the deadline.

        """
        link = await self._link(deadline)
        message = build_message(self._celery, record)
        exchange, routing_key = _address(record, now)
        sent_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(deadline):
                with losses_as_errors():
                    await link.channel.basic_publish(
                        message.body,
                        exchange=exchange,
                        routing_key=routing_key,
                        properties=_properties(record, message),
                        mandatory=True,
                        wait=False,  # else each would hold the channel until the socket drains
                    )
        except PublishError as exc:
            self._declare_again()
            raise BrokerUnavailable(f"No queue takes {routing_key!r}: it is not declared.") from exc
        except DeliveryError as exc:
            self._renew(link)
            raise LaneFull(f"The queue {record.lane!r} refused the job: it is full.") from exc
        except LOST_CONNECTION as exc:  # a timeout is an OSError, too
            await self._give_up_if_silent(link, sent_at)
            raise OutcomeUnknown(record.id) from exc
        self._last_confirm = asyncio.get_running_loop().time()

    async def publish_many(
        self, records: Sequence[JobRecord], deadline: float
    ) -> list[ApiError | None]:
        """Publish many jobs at once; return for each, in their order, None or why it was refused.

        Nothing is raised: each job has its own outcome, with the errors of `publish`.
        """
        now = datetime.now(UTC)
        return list(
            await asyncio.gather(*(self._outcome(record, now, deadline) for record in records))
        )

    async def _outcome(self, record: JobRecord, now: datetime, deadline: float) -> ApiError | None:
        try:
            await self.publish(record, now, deadline)
        except ApiError as exc:
            return exc
        return None

    async def count_queues(self, names: Sequence[str]) -> dict[str, LiveCount]:
        """Return what waits in queues and who consumes them, as of this moment.

        Raises:
            BrokerUnavailable: RabbitMQ does not answer in time, or a queue is missing.

        """
        deadline = self.deadline()
        link = await self._link(deadline)
        try:
            async with asyncio.timeout_at(deadline):
                with losses_as_errors():
                    # A channel of its own: asking for a queue that is missing closes the channel.
                    channel = await link.connection.amqp.channel(publisher_confirms=False)
                    counts = {name: await _count(channel, name) for name in names}
                    await channel.close()
        except LOST_CONNECTION as exc:
            reason = str(exc) or "no answer in time"
            raise BrokerUnavailable(f"The queues can't be counted: {reason}.") from exc
        return counts

    async def close(self) -> None:
        """Close the connection."""
        for task in (self._closing, self._opening):
            if task and not task.done():
                task.cancel()
        if self._opening and _is_open(self._opening):
            await self._opening.result().connection.close()

    async def _link(self, deadline: float) -> _Link:
        if self._opening is None or (self._opening.done() and not _is_open(self._opening)):
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

    async def _open(self) -> _Link:
        # Declared anew with each connection: the broker may have come back empty.
        await asyncio.to_thread(self._declare, (DEAD_LETTERS, DEAD_LETTER_NOTICES))
        async with asyncio.timeout(_OPEN_SECONDS):
            connection = await AmqpConnection.open(self._celery.conf.broker_url)
            logger.info("connected to RabbitMQ")
            channel = await connection.amqp.channel(publisher_confirms=True, on_return_raises=True)
        return _Link(connection, cast("Channel", channel))  # the abstract type knows no `wait`

    async def _give_up_if_silent(self, link: _Link, since: float) -> None:
        """Drop a connection on which nothing was confirmed since a publish that timed out.

        It may be half-open: the next job gets a new one. A blocked one is alive, and stays.
        """
        if self._last_confirm >= since or self._opening is None or not _is_open(self._opening):
            return
        if self._opening.result() is not link:
            return
        try:
            await self.ready(_soon())
        except BrokerUnavailable:
            return
        logger.warning("RabbitMQ confirms nothing: its connection is given up")
        link.connection.abort()

    def _renew(self, link: _Link) -> None:
        """Have later jobs use a new channel, now and then.

        RabbitMQ 3.10 goes on refusing what comes on a channel that it has refused something on,
        when it was the queue's limit that was lifted.
        """
        now = asyncio.get_running_loop().time()
        if self._opening is None or not _is_open(self._opening) or now < self._next_renewal:
            return
        if self._opening.result() is link:
            self._next_renewal = now + _RENEWAL_SECONDS
            self._opening = asyncio.create_task(self._open())
            self._closing = asyncio.create_task(_close_later(link, self._timeout_seconds))

    def _declare_again(self) -> None:
        """Bring back, in the background, what somebody has deleted: the next job will find it."""
        if self._declaring is None or self._declaring.done():
            self._declaring = asyncio.create_task(asyncio.to_thread(self._declare))

    def _declare(self, own: Collection[Queue] | None = None) -> None:
        with self._celery.connection_for_write(connect_timeout=self._timeout_seconds) as connection:
            connection.connect()
            declare_topology(connection, own)


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


async def _close_later(link: _Link, seconds: float) -> None:
    """Close a connection when whoever waits on it has had its time."""
    await asyncio.sleep(seconds)
    await link.connection.close()


def _properties(record: JobRecord, message: JobMessage) -> Basic.Properties:
    return Basic.Properties(
        headers=message.headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        correlation_id=message.correlation_id,
        delivery_mode=PERSISTENT,
        message_id=record.id,
        timestamp=record.submitted_at,
    )


def _is_open(opening: "asyncio.Task[_Link]") -> bool:
    if not opening.done() or opening.cancelled() or opening.exception() is not None:
        return False
    return not opening.result().channel.is_closed


def _soon() -> float:
    return asyncio.get_running_loop().time() + _READY_SECONDS
