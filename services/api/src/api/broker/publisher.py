"""Publishing to RabbitMQ from the event loop: confirmed, mandatory, bounded in time.

Celery builds the messages; aiormq's connection carries them, because it never blocks the loop. It
is opened when needed, and again after a loss.
"""

import asyncio
import logging
import math
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from aiormq.abc import AbstractConnection
from celery import Celery

from api.broker.channel import ConfirmChannel
from api.broker.confirms import ConfirmListener, PendingConfirms
from api.broker.connection import LOST_CONNECTION, AmqpConnection, declare, losses_as_errors
from api.broker.pending_job import PendingJob
from api.concurrency import BackgroundTasks
from api.errors.types import ApiError, BrokerUnavailable
from contracts.records import JobRecord
from contracts.topology import DEAD_LETTER_NOTICES, DEAD_LETTERS
from twinlane_sdk.catalogue import Catalogue

_OPEN_SECONDS: Final = 5.0
"""What opening may take; those who wait for it give up sooner."""

_RENEWAL_SECONDS: Final = 10.0

_READY_SECONDS: Final = 0.1
"""What a blocked connection is given to be unblocked: nothing is gained by waiting for memory."""

_MOST_PENDING: Final = 8_192
"""Jobs that wait for their confirms at the same time: more than come in the time that a job waits
at most, so that one queue's silence does not keep the other lane's jobs from being sent."""

logger = logging.getLogger(__name__)


class _Link(NamedTuple):
    """An open connection with the channel that publishes on it."""

    connection: AmqpConnection
    channel: ConfirmChannel


class Publisher:
    """Publishes jobs on one channel of one connection.

    `timeout_seconds` bounds a submission as a whole: recording it, connecting, and the confirm.
    """

    def __init__(self, celery: Celery, catalogue: Catalogue, timeout_seconds: float) -> None:
        self._celery = celery
        self._catalogue = catalogue
        self._timeout_seconds = timeout_seconds
        self._opening: asyncio.Task[_Link] | None = None
        self._latest: _Link | None = None
        self._declaring: asyncio.Task[None] | None = None
        self._next_renewal = 0.0
        self._background = BackgroundTasks()

    def start(self) -> None:
        """Begin to connect, so that the first job need not wait for the topology's declaration."""
        self._opening = asyncio.create_task(self._open())

    async def close(self) -> None:
        """Close the connection."""
        self._background.cancel()
        if self._opening:
            self._opening.cancel()
        if link := self._current():
            await link.connection.close()

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
        if await _is_blocked(link, deadline):
            raise BrokerUnavailable(
                "RabbitMQ has stopped its publishers: it is short of memory or disk space."
            )

    async def connection(self, deadline: float) -> AbstractConnection:
        """Return the open connection, for what needs a channel of its own.

        Raises:
            BrokerUnavailable: there is none until the deadline.

        """
        return (await self._link(deadline)).connection.amqp

    # --- jobs ---

    async def send(self, jobs: Sequence[PendingJob]) -> None:
        """Send at least one job, and return when more may be sent.

        Each is resolved or refused, once, with an error of `publish`. The deadline of the first,
        which has waited longest, is that of all.
        """
        deadline = jobs[0].deadline
        try:
            link = await self._link(deadline)
        except BrokerUnavailable as exc:
            for job in jobs:
                job.refuse(exc)
        else:
            await link.channel.send(jobs, deadline)

    async def publish(self, record: JobRecord, deadline: float) -> None:
        """Publish a job's first stage and return once the broker has confirmed it.

        Raises:
            BrokerUnavailable: it was not sent, or no queue took it.
            LaneFull: the queue refused it.
            OutcomeUnknown: it was sent and no confirm came until the deadline.

        """
        (error,) = await self.publish_many([record], deadline)
        if error:
            raise error

    async def publish_many(
        self, records: Sequence[JobRecord], deadline: float
    ) -> list[ApiError | None]:
        """Publish many jobs at once; return for each, in their order, None or why it was refused.

        Nothing is raised: each job has its own outcome, with the errors of `publish`.
        """
        jobs = [PendingJob(record, deadline) for record in records]
        if jobs:
            await self.send(jobs)
        return [await job.outcome for job in jobs]

    # --- the connection ---

    async def _link(self, deadline: float) -> _Link:
        """Return the open connection, or open one.

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

    def _current(self) -> _Link | None:
        if self._latest is None or self._latest.channel.is_closed:
            return None
        return self._latest

    async def _open(self) -> _Link:
        # Declared anew with each connection: the broker may have come back empty.
        own = (DEAD_LETTERS, DEAD_LETTER_NOTICES)
        await declare(self._celery, self._timeout_seconds, own)
        async with asyncio.timeout(_OPEN_SECONDS):
            connection = await AmqpConnection.open(self._celery.conf.broker_url)
            logger.info("connected to RabbitMQ")
            try:
                channel = await self._open_channel(connection)
            except BaseException:
                connection.abort()
                raise
        self._latest = _Link(connection, channel)
        return self._latest

    async def _open_channel(self, connection: AmqpConnection) -> ConfirmChannel:
        listener = ConfirmListener(
            refused=partial(self._renew, connection),
            unroutable=self._declare_again,
            silent=partial(self._check_alive, connection),
        )
        confirms = PendingConfirms(_MOST_PENDING, listener)
        return await ConfirmChannel.open_on(
            connection.amqp, self._celery, self._catalogue, confirms
        )

    # --- when the broker does not take what is sent ---

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
            self._background.start(self._close_later(link))

    async def _close_later(self, link: _Link) -> None:
        """Close a connection when whoever waits on it has had its time."""
        await asyncio.sleep(self._timeout_seconds)
        await link.connection.close()

    def _declare_again(self) -> None:
        """Bring back, in the background, what somebody has deleted: the next job will find it."""
        if self._declaring is None or self._declaring.done():
            self._declaring = asyncio.create_task(declare(self._celery, self._timeout_seconds))

    def _check_alive(self, connection: AmqpConnection) -> None:
        """Find out, in the background, whether a connection on which nothing is confirmed works."""
        link = self._current()
        if link and link.connection is connection:
            self._background.start(_abort_unless_blocked(link))


async def _abort_unless_blocked(link: _Link) -> None:
    """Abort a connection on which nothing is confirmed: the next job gets a new one.

    It may be half-open. A blocked one is alive, and stays.
    """
    if not await _is_blocked(link, math.inf):
        logger.warning("RabbitMQ confirms nothing: its connection is given up")
        link.connection.abort()


async def _is_blocked(link: _Link, deadline: float) -> bool:
    soon = asyncio.get_running_loop().time() + _READY_SECONDS
    try:
        async with asyncio.timeout_at(min(deadline, soon)):
            await link.connection.amqp.ready()
    except TimeoutError:
        return True
    return False
