"""Connections to RabbitMQ: on the event loop, given up at once if need be; and declaring."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import aiormq
from aiormq.abc import AbstractConnection
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import AMQPError, ChannelInvalidStateError
from celery import Celery
from kombu import Queue
from yarl import URL

from contracts.topology import declare_topology

LOST_CONNECTION: Final = (AMQPError, ChannelInvalidStateError, ConnectionError, OSError)
"""What aiormq raises when RabbitMQ went away or refused."""

_HEARTBEAT_SECONDS: Final = 10
_CLOSE_SECONDS: Final = 1.0


@contextmanager
def losses_as_errors() -> Iterator[None]:
    """Make a lost connection an error also where aiormq cancels what waits on it.

    Raises:
        ConnectionError: aiormq has cancelled this task's wait, and nobody else.

    """
    try:
        yield
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionError("the connection was lost") from exc


class _AbortableTransport(TransportFactory):
    """Opens a transport as aiormq would, and remembers it."""

    def __init__(self, url: URL) -> None:
        self._inner = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        self._writer: asyncio.StreamWriter | None = None

    async def create(
        self,
        url: URL,
        **kwargs: Any,  # noqa: ANN401 - aiormq's
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, self._writer = await self._inner.create(url, **kwargs)
        return reader, self._writer

    def abort(self) -> None:
        if self._writer:
            self._writer.transport.abort()


@dataclass(frozen=True, slots=True)
class AmqpConnection:
    """aiormq's connection, and how to be rid of it without closing it."""

    amqp: AbstractConnection
    _transport: _AbortableTransport

    @classmethod
    async def open(cls, broker_url: str) -> Self:
        """Connect.

        Raises:
            AMQPError, OSError: RabbitMQ can't be reached or refuses.

        """
        url = URL(broker_url).update_query(heartbeat=_HEARTBEAT_SECONDS)
        transport = _AbortableTransport(url)
        with losses_as_errors():
            return cls(await aiormq.connect(url, transport_factory=transport), transport)

    async def close(self) -> None:
        """Close it, and wait until the other end has agreed."""
        await self.amqp.close()

    def abort(self) -> None:
        """Close the socket at once: whatever waits for an answer fails now.

        For a connection whose other end does not answer any more, where closing takes for ever.
        """
        self._transport.abort()


@asynccontextmanager
async def connected(broker_url: str, timeout_seconds: float) -> AsyncIterator[AbstractConnection]:
    """Open a connection of one's own and close it in the end, whatever has become of it.

    Raises:
        AMQPError, OSError: it can't be opened, or not in time.

    """
    async with asyncio.timeout(timeout_seconds):
        connection = await AmqpConnection.open(broker_url)
    try:
        yield connection.amqp
    finally:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await connection.close()
        except LOST_CONNECTION:
            connection.abort()


async def declare(
    celery: Celery, connect_seconds: float, own: Collection[Queue] | None = None
) -> None:
    """Declare what jobs travel through, as `declare_topology` does, without blocking the loop.

    Raises:
        amqp.AMQPError, OSError: RabbitMQ can't be reached, or refuses.

    """
    await asyncio.to_thread(_declare, celery, connect_seconds, own)


def _declare(celery: Celery, connect_seconds: float, own: Collection[Queue] | None) -> None:
    with celery.connection_for_write(connect_timeout=connect_seconds) as connection:
        connection.connect()
        declare_topology(connection, own)
