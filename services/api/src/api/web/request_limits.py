"""No request is read beyond a limit, neither its head nor its body.

Neither httptools nor uvicorn limits a head. There are two steps, because an application sees a
head only once it is complete: HeadLimit answers what is too large with a problem document;
BoundedHeadProtocol cuts off what would never end.
"""

import json
from collections.abc import Set as AbstractSet
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.errors.rendering import problem_body, to_response
from api.errors.types import MEDIA_TYPE, BodyTooLarge, HeadersTooLarge

MAX_HEADER_BYTES: Final = 32 * 1024
"""Names and values of all headers."""
_MAX_HEAD_BYTES: Final = 2 * MAX_HEADER_BYTES
"""Headers with the request line, before they are complete; one more read may come on top."""


class HeadLimit:
    """ASGI middleware: answers 431 to a request whose headers are larger than the limit."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and _size(scope["headers"]) > MAX_HEADER_BYTES:
            await to_response(HeadersTooLarge(MAX_HEADER_BYTES))(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class BoundedHeadProtocol(HttpToolsProtocol):
    """uvicorn's own protocol, which ends a connection whose request head does not end."""

    _in_head = False
    _head_bytes = 0

    def on_message_begin(self) -> None:
        """Start to count."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop to count."""
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Read on, unless it is a head that is too large already."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self._refuse()
                return
        super().data_received(data)

    def _refuse(self) -> None:
        # While an earlier request of this connection is being answered, nothing may come between.
        # (uvicorn's annotation forgets that before the first request there is no cycle.)
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]
            self.transport.write(_refusal())
        self.transport.close()


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) for name, value in headers)


def _refusal() -> bytes:
    error = HeadersTooLarge(MAX_HEADER_BYTES)
    body = json.dumps(problem_body(error)).encode()
    head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return STATUS_LINE[int(error.status)] + head.encode() + body


class BodyLimit:
    """ASGI middleware: reading more than `limit` bytes raises BodyTooLarge where it is read.

    Paths in `unlimited` count for themselves.
    """

    def __init__(self, app: ASGIApp, limit: int, unlimited: AbstractSet[str]) -> None:
        self._app = app
        self._limit = limit
        self._unlimited = unlimited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with a receive that counts."""
        if scope["type"] != "http" or scope["path"] in self._unlimited:
            await self._app(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise BodyTooLarge(self._limit, "MAX_BODY_BYTES")
            return message

        await self._app(scope, limited, send)
