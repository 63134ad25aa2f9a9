"""Publishing to RabbitMQ from the event loop: confirmed, mandatory, bounded in time.

Celery builds the messages; aiormq's connection carries them, because it never blocks the loop.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from aiormq.abc import AbstractChannel
from celery import Celery

from api.broker.broker_link import BrokerLink
from api.broker.confirms import Outgoing
from api.broker.connection import LOST_CONNECTION, losses_as_errors
from api.errors.types import ApiError, BrokerUnavailable
from contracts.records import JobRecord


class LiveCount(NamedTuple):
    """Messages that wait in a queue, and its consumers."""

    ready: int
    consumers: int


class Publisher:
    """Publishes jobs on one connection.

    `timeout_seconds` bounds a submission as a whole: recording it, connecting, and the confirm.
    """

    def __init__(self, celery: Celery, timeout_seconds: float) -> None:
        self._link = BrokerLink(celery, timeout_seconds)
        self._timeout_seconds = timeout_seconds

    def start(self) -> None:
        """Begin to connect."""
        self._link.start()

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()

    def deadline(self) -> float:
        """Return when a submission that begins now must be answered, in the loop's time."""
        return asyncio.get_running_loop().time() + self._timeout_seconds

    async def ready(self, deadline: float) -> None:
        """Return if jobs can be published now.

        Raises:
            BrokerUnavailable: RabbitMQ is away, or has stopped publishers for want of memory or
                disk.

        """
        await self._link.ready(deadline)

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
        loop = asyncio.get_running_loop()
        outcomes: list[asyncio.Future[ApiError | None]] = [loop.create_future() for _ in records]
        jobs = [
            Outgoing(record, partial(_resolve, outcome))
            for record, outcome in zip(records, outcomes, strict=True)
        ]
        await self.send(jobs, deadline)
        return [await outcome for outcome in outcomes]

    async def send(self, jobs: Sequence[Outgoing], deadline: float) -> None:
        """Send jobs, and return when more may be sent.

        Each is told, once, that the broker has it, or one of the errors of `publish`.
        """
        try:
            link = await self._link.get(deadline)
        except BrokerUnavailable as exc:
            for job in jobs:
                job.tell(exc)
        else:
            await link.channel.send(jobs, deadline)

    async def count_queues(self, names: Sequence[str]) -> dict[str, LiveCount]:
        """Return what waits in queues and who consumes them, as of this moment.

        Raises:
            BrokerUnavailable: RabbitMQ does not answer in time, or a queue is missing.

        """
        deadline = self.deadline()
        link = await self._link.get(deadline)
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


def _resolve(outcome: "asyncio.Future[ApiError | None]", error: ApiError | None) -> None:
    if not outcome.done():  # who waited for it may have been cancelled
        outcome.set_result(error)


async def _count(channel: AbstractChannel, name: str) -> LiveCount:
    declared = await channel.queue_declare(name, passive=True)
    return LiveCount(declared.message_count or 0, declared.consumer_count or 0)
