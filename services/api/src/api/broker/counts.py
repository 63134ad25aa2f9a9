"""Numbers for people who watch: of the queues from RabbitMQ, of the workers from themselves."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

import httpx2
from aiormq.abc import AbstractChannel
from celery import Celery
from kombu.exceptions import OperationalError
from pydantic import BaseModel

from api.broker.connection import LOST_CONNECTION, losses_as_errors
from api.broker.publisher import Publisher
from api.errors.types import BrokerUnavailable
from contracts.topology import DEAD_LETTERS
from contracts.worker_counts import COUNT_TASKS, WorkerCount
from twinlane_sdk.lanes import Lane

_ANSWER_SECONDS: Final = 1.0
"""How long workers may take to answer; a busy network is no reason to hold up a request."""

_COUNTED: Final = (*(lane.queue_name for lane in Lane), DEAD_LETTERS.name)


class QueueCount(BaseModel):
    """Messages and consumers of a queue; `unacknowledged` as of about a second ago."""

    ready: int
    unacknowledged: int
    consumers: int


class _LiveCount(NamedTuple):
    """Messages that wait in a queue, and its consumers, as of this moment."""

    ready: int
    consumers: int


@dataclass(frozen=True, slots=True)
class WorkerAnswer:
    """A worker's name and its counts."""

    name: str
    count: WorkerCount


class BrokerStats:
    """Asks RabbitMQ's management API and, by Celery's remote control, the workers."""

    def __init__(
        self,
        celery: Celery,
        publisher: Publisher,
        client: httpx2.AsyncClient,
        management_url: str,
    ) -> None:
        parts = urlsplit(management_url)
        self._publisher = publisher
        self._client = client
        self._celery = celery
        self._auth = (parts.username or "", parts.password or "")
        origin = f"{parts.scheme}://{parts.hostname}:{parts.port or 15672}"
        vhost = urlsplit(celery.conf.broker_url).path.removeprefix("/") or "/"
        self._queues_url = (
            f"{origin}/api/queues/{quote(vhost, safe='%')}"
            # Without these, figures are those of the last statistics, up to ten seconds old.
            "?disable_stats=true&enable_queue_totals=true"
        )

    async def everything(self) -> tuple[dict[str, QueueCount], list[WorkerAnswer]]:
        """Return the counts of all queues, and of as many workers as consume from a lane.

        Raises:
            BrokerUnavailable: RabbitMQ, its management API or the workers can't be asked.

        """
        queues = await self.queues()
        expected = sum(queues[lane.queue_name].consumers for lane in Lane)
        return queues, await self.workers(expected)

    async def queues(self) -> dict[str, QueueCount]:
        """Return the counts of the lanes' queues and the dead letters, by queue name.

        Raises:
            BrokerUnavailable: RabbitMQ or its management API does not answer.

        """
        counts, unacknowledged = await asyncio.gather(self._live_counts(), self._unacknowledged())
        return {
            name: QueueCount(
                ready=count.ready,
                consumers=count.consumers,
                unacknowledged=unacknowledged.get(name, 0),
            )
            for name, count in counts.items()
        }

    async def _live_counts(self) -> dict[str, _LiveCount]:
        deadline = self._publisher.deadline()
        connection = await self._publisher.connection(deadline)
        try:
            async with asyncio.timeout_at(deadline):
                with losses_as_errors():
                    # A channel of its own: asking for a queue that is missing closes the channel.
                    channel = await connection.channel(publisher_confirms=False)
                    counts = {name: await _count(channel, name) for name in _COUNTED}
                    await channel.close()
        except LOST_CONNECTION as exc:
            reason = str(exc) or "no answer in time"
            raise BrokerUnavailable(f"The queues can't be counted: {reason}.") from exc
        return counts

    async def _unacknowledged(self) -> dict[str, int]:
        """Ask the management API for what AMQP does not count; its figures are a second old."""
        try:
            answer = await self._client.get(self._queues_url, auth=self._auth)
            answer.raise_for_status()
        except httpx2.HTTPError as exc:
            raise BrokerUnavailable(f"RabbitMQ's management API does not answer: {exc!r}.") from exc
        return {queue["name"]: queue.get("messages_unacknowledged", 0) for queue in answer.json()}

    async def workers(self, expected: int) -> list[WorkerAnswer]:
        """Return what the workers count; waits for `expected` answers or a second.

        Raises:
            BrokerUnavailable: they can't be asked.

        """
        if not expected:
            return []
        return await asyncio.to_thread(self._ask_workers, expected)

    def _ask_workers(self, expected: int) -> list[WorkerAnswer]:
        try:
            with self._celery.connection_for_write(connect_timeout=_ANSWER_SECONDS) as connection:
                answers: list[dict[str, Any]] | None = self._celery.control.broadcast(
                    COUNT_TASKS,
                    reply=True,
                    limit=expected,
                    timeout=_ANSWER_SECONDS,
                    connection=connection,
                )
        except (OperationalError, OSError) as exc:
            raise BrokerUnavailable(f"The workers can't be asked: {exc}.") from exc
        return sorted(
            (
                WorkerAnswer(name, WorkerCount.model_validate(count))
                for answer in answers or []
                for name, count in answer.items()
            ),
            key=lambda worker: worker.name,
        )


async def _count(channel: AbstractChannel, name: str) -> _LiveCount:
    declared = await channel.queue_declare(name, passive=True)
    return _LiveCount(declared.message_count or 0, declared.consumer_count or 0)


def oldest_seconds(queue: QueueCount, lane: Lane, workers: list[WorkerAnswer]) -> float | None:
    """Return how long the lane's next job has waited, at most; None when nothing waits.

    RabbitMQ does not know the age of a quorum queue's head, and looking at a message counts as a
    delivery. But a lane is first in, first out: its head is younger than what a worker got last.
    """
    received = [
        worker.count.newest_submitted_at
        for worker in workers
        if worker.count.lane == lane and worker.count.newest_submitted_at
    ]
    if not queue.ready or not received:
        return None
    return max(0.0, (datetime.now(UTC) - max(received)).total_seconds())
