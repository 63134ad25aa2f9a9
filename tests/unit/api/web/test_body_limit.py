from collections.abc import Awaitable, Callable

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api.errors.types import BodyTooLarge
from api.web.request_limits import BodyLimit

Call = Callable[..., Awaitable[int]]


@pytest.fixture
def call() -> Call:
    """Call a limited application with chunks of a body; return how many chunks it took."""

    async def call(*chunks: bytes, path: str = "/", read: bool = True) -> int:
        taken = 0

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            body = await Request(scope, receive).body() if read else b""
            await Response(str(len(body)))(scope, receive, send)

        async def receive() -> Message:
            nonlocal taken
            taken += 1
            more = taken < len(chunks)
            return {"type": "http.request", "body": chunks[taken - 1], "more_body": more}

        async def send(message: Message) -> None:
            del message

        scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        await BodyLimit(app, limit=10, unlimited={"/files"})(scope, receive, send)
        return taken

    return call


async def test_body_of_exactly_the_limit_passes(call: Call) -> None:
    assert await call(b"12345", b"67890") == 2


async def test_body_above_the_limit_is_refused_with_the_limit(call: Call) -> None:
    with pytest.raises(BodyTooLarge) as caught:
        await call(b"12345678901")
    assert caught.value.members == {"limit_bytes": 10}


async def test_reading_stops_at_the_limit(call: Call) -> None:
    unread = b"x"
    with pytest.raises(BodyTooLarge):
        await call(b"123456", b"789012", unread, unread, unread)


async def test_path_with_a_limit_of_its_own_is_left_alone(call: Call) -> None:
    assert await call(b"12345678901", b"x", path="/files") == 2


async def test_body_that_nobody_reads_is_not_counted(call: Call) -> None:
    assert await call(b"12345678901", read=False) == 0
