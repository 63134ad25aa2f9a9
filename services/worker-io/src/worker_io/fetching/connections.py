"""HTTP/1.1 connections to servers: opened, kept while idle, used again.

h11 implements the protocol; this reads and writes its bytes. With an HTTP client's pools, backends
and portable synchronisation, a call took four times as long.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import h11

from worker_io.fetching.public_addresses import PublicConnector

_IDLE_SECONDS: Final = 5.0
_MAX_IDLE: Final = 256
_MAX_HEAD_BYTES: Final = 100 * 1024
_READ_BYTES: Final = 64 * 1024
_PORTS: Final = {"http": 80, "https": 443}


class BrokenConnectionError(Exception):
    """A server could not be reached, closed the connection early, or broke HTTP/1.1; says how."""


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int


class Connection:
    """One connection, for one request after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, _MAX_HEAD_BYTES)
        self.expiry: asyncio.TimerHandle | None = None
        """Closes it, unless it is used again before."""

    async def get(self, target: str, headers: Iterable[tuple[str, str]]) -> h11.Response:
        """Send a GET and return the head of its response."""
        request = h11.Request(method="GET", target=target, headers=list(headers))
        self._writer.write((self._http.send(request) or b"") + self._end_of_request())
        while True:  # responses like 103 Early Hints come first
            event = await self._next_event()
            if isinstance(event, h11.Response):
                return event

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the response's body as it comes in."""
        while isinstance(event := await self._next_event(), h11.Data):
            yield event.data

    def is_open(self) -> bool:
        """Return whether the server has not closed it, as far as is known here."""
        return not self._reader.at_eof() and not self._writer.is_closing()

    async def is_silent(self) -> bool:
        """Return whether the server has neither closed it nor sent anything unasked.

        If it has, close this side too.
        """
        try:
            async with asyncio.timeout(0):
                await self._reader.read(1)
        except TimeoutError:
            return True
        except OSError:  # it was reset
            pass
        except asyncio.CancelledError:
            self.close()
            raise
        self.close()
        return False

    def start_next(self) -> bool:
        """Get ready for the next request; return whether the last one's end allows it."""
        states = {self._http.our_state, self._http.their_state}
        if states != {h11.DONE} or self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        return True

    def close(self) -> None:
        """Close it at once, whatever is under way."""
        self._writer.transport.abort()

    def _end_of_request(self) -> bytes:
        return self._http.send(h11.EndOfMessage()) or b""

    async def _next_event(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                received = await self._reader.read(_READ_BYTES)
                if not received and self._http.their_state is h11.SEND_RESPONSE:
                    raise BrokenConnectionError("Connection was closed without an answer")
                self._http.receive_data(received)
        except (OSError, h11.RemoteProtocolError) as exc:
            raise BrokenConnectionError(str(exc) or type(exc).__name__) from exc
        return event


class Connections:
    """All connections of one event loop: one for each call, and some idle ones for the next."""

    def __init__(self, connector: PublicConnector) -> None:
        self._connector = connector
        self._tls = ssl.create_default_context()
        self._tls.set_alpn_protocols(["http/1.1"])
        self._idle: dict[_Origin, list[Connection]] = {}
        self._idle_count = 0

    @asynccontextmanager
    async def get(
        self, url: str, headers: Iterable[tuple[str, str]]
    ) -> AsyncIterator[tuple[h11.Response, AsyncIterator[bytes]]]:
        """Send a GET; while inside, the body is there to be read.

        Raises:
            BrokenConnectionError: the server can't be reached, or closes the connection early.
            RejectedError: it is at no public address.

        """
        parts = urlsplit(url)
        origin = _Origin(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection, response = await self._send(origin, target, [("Host", parts.netloc), *headers])
        try:
            yield response, connection.body()
        finally:
            if connection.start_next() and connection.is_open():
                self._keep(origin, connection)
            else:
                connection.close()

    async def _send(
        self, origin: _Origin, target: str, headers: list[tuple[str, str]]
    ) -> tuple[Connection, h11.Response]:
        idle = await self._take(origin)
        if idle is not None:
            try:
                return idle, await _get(idle, target, headers)
            except BrokenConnectionError:
                pass  # its server was just closing it; a GET may be repeated (RFC 9110, 9.2.2)
        opened = await self._open(origin)
        return opened, await _get(opened, target, headers)

    async def _open(self, origin: _Origin) -> Connection:
        tls = self._tls if origin.scheme == "https" else None
        try:
            return Connection(*await self._connector.connect(origin.host, origin.port, tls))
        except OSError as exc:
            raise BrokenConnectionError(str(exc) or type(exc).__name__) from exc

    async def _take(self, origin: _Origin) -> Connection | None:
        """Return the connection that was used last, of those that can be used again."""
        idle = self._idle.get(origin, [])
        while idle:
            connection = idle[-1]
            self._remove(origin, connection)
            if await connection.is_silent():
                return connection
        return None

    def _keep(self, origin: _Origin, connection: Connection) -> None:
        if self._idle_count >= _MAX_IDLE:
            connection.close()
            return
        self._idle.setdefault(origin, []).append(connection)
        self._idle_count += 1
        loop = asyncio.get_running_loop()
        connection.expiry = loop.call_later(_IDLE_SECONDS, self._expire, origin, connection)

    def _expire(self, origin: _Origin, connection: Connection) -> None:
        self._remove(origin, connection)
        connection.close()

    def _remove(self, origin: _Origin, connection: Connection) -> None:
        idle = self._idle[origin]
        idle.remove(connection)
        if not idle:
            del self._idle[origin]
        self._idle_count -= 1
        if connection.expiry is not None:
            connection.expiry.cancel()


async def _get(
    connection: Connection, target: str, headers: Iterable[tuple[str, str]]
) -> h11.Response:
    try:
        return await connection.get(target, headers)
    except BaseException:
        connection.close()
        raise
