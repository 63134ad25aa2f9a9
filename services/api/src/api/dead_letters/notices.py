"""Shows in a job's state that the broker has given its message up.

A job can die without its worker writing anything: by the delivery limit, a body that can't be
read, a retry that could not be sent, a queue that lost messages. Every message that dies leaves a
notice. Each API process consumes notices; which one gets which does not matter.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from aiormq.abc import AbstractConnection, DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity
from amqp.exceptions import AMQPError
from celery import Celery
from pydantic import ValidationError

from api.broker.connection import LOST_CONNECTION, connected, declare, losses_as_errors
from api.concurrency import stop_task, wait_for_event
from api.dead_letters.job_updates import JobUpdates
from api.dead_letters.letter import REJECTED_REASON, Death
from api.errors.types import JobNotFound, ResultsUnavailable
from api.store.jobs import JobStore
from contracts.topology import DEAD_LETTER_NOTICES, DEAD_LETTERS

_AT_ONCE: Final = 50
_CONNECT_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 1.0
_CHECK_SECONDS: Final = 2.0
"""Between checks whether RabbitMQ is there and knows that somebody consumes notices."""
_WORKER_WRITES_SECONDS: Final = 1.0
"""A worker that rejects a task that it does not know writes the failure after the rejection."""

logger = logging.getLogger(__name__)


class DeathNoticeConsumer:
    """Consumes the notices of dead messages for as long as the process lives."""

    def __init__(self, celery: Celery, store: JobStore, updates: JobUpdates) -> None:
        self._celery = celery
        self._store = store
        self._updates = updates
        self._running: asyncio.Task[None] | None = None
        self._is_redis_away = False

    def start(self) -> None:
        """Begin, without waiting for RabbitMQ or Redis."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; notices that are not acknowledged go back to their queue."""
        if self._running:
            await stop_task(self._running)

    async def _run(self) -> None:
        while True:
            try:
                with losses_as_errors():
                    await self._connect_and_consume()
            except ChannelNotFoundEntity:
                await self._declare()
            except Exception as exc:  # noqa: BLE001 - whatever it is, deaths must be seen again
                logger.warning("no notices of dead messages, again in a second: %r", exc)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _connect_and_consume(self) -> None:
        async with connected(self._celery.conf.broker_url, _CONNECT_SECONDS) as connection:
            await self._consume(connection)

    async def _consume(self, connection: AbstractConnection) -> None:
        """Consume notices until the connection is lost or the broker takes the queue away."""
        is_gone = asyncio.Event()
        async with asyncio.timeout(_CONNECT_SECONDS):
            channel = await connection.channel(publisher_confirms=False)
            channel.closing.add_done_callback(lambda _: is_gone.set())
            channel.on_consumer_cancel_callbacks.add(lambda _: is_gone.set())
            await channel.basic_qos(prefetch_count=_AT_ONCE)
            await channel.basic_consume(DEAD_LETTER_NOTICES.name, self._handle)
        logger.info("consuming notices of dead messages")
        while not await wait_for_event(is_gone, _CHECK_SECONDS):
            async with asyncio.timeout(_CONNECT_SECONDS):
                queue = await channel.queue_declare(DEAD_LETTER_NOTICES.name, passive=True)
            if not queue.consumer_count:
                return

    async def _declare(self) -> None:
        try:
            await declare(self._celery, _CONNECT_SECONDS, (DEAD_LETTERS, DEAD_LETTER_NOTICES))
        except (AMQPError, OSError) as exc:
            logger.warning("the queue of the notices can't be declared: %r", exc)

    async def _handle(self, message: DeliveredMessage) -> None:
        death = Death.of(message.header.properties.headers)
        while not await self._show(death):  # noqa: ASYNC110 - Redis may come back any time
            await asyncio.sleep(_PAUSE_SECONDS)
        with suppress(*LOST_CONNECTION):  # then the notice comes again
            await message.channel.basic_ack(message.delivery_tag or 0)

    async def _show(self, death: Death) -> bool:
        """Show a death in its job's state; return False if Redis does not answer."""
        try:
            await self._fail_job(death)
        except (JobNotFound, ValidationError):  # no job of ours: its letter is all there is
            return True
        except ResultsUnavailable as exc:
            if not self._is_redis_away:
                logger.warning("deaths can't be shown, again every second: %s", exc)
            self._is_redis_away = True
            return False
        self._is_redis_away = False
        return True

    async def _fail_job(self, death: Death) -> None:
        if death.job_id is None or await self._has_ended(death.job_id):
            return
        if death.reason == REJECTED_REASON:
            await asyncio.sleep(_WORKER_WRITES_SECONDS)
            if await self._has_ended(death.job_id):
                return
        if await self._updates.end(death.job_id, death):
            logger.warning("job %s: %s", death.job_id, death.description)

    async def _has_ended(self, job_id: str) -> bool:
        snapshot = await self._store.snapshot(job_id)
        return snapshot.status.state.is_terminal
