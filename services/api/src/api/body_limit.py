"""No request body is read beyond a limit."""

from collections.abc import Set as AbstractSet

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import BodyTooLarge


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
