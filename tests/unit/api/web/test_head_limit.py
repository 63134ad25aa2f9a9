"""Heads that are too large, sent to a real uvicorn."""

import json
import select
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.web.request_limits import MAX_HEADER_BYTES, BoundedHeadProtocol, HeadLimit
from servers import eventually

REQUEST = b"GET / HTTP/1.1\r\nHost: api\r\n"


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await Response("seen")(scope, receive, send)


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            HeadLimit(answer), http=BoundedHeadProtocol, lifespan="off", log_config=None
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        assert eventually(lambda: server.started, 10)
        yield listener.getsockname()
        server.should_exit = True
        thread.join()


@pytest.fixture
def connection(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=10) as connection:
        yield connection


def is_readable(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0.05)[0])


def received(connection: socket.socket) -> bytes:
    """Return what comes until the other side says no more."""
    found = b""
    try:
        while chunk := connection.recv(65536):
            found += chunk
            head, _, body = found.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            if len(body) >= length > 0:
                break
    except ConnectionResetError:
        pass  # closed while there was more to read
    return found


def test_headers_up_to_the_limit_pass(connection: socket.socket) -> None:
    connection.sendall(REQUEST + b"X: " + b"a" * (MAX_HEADER_BYTES - 9) + b"\r\n\r\n")
    assert received(connection).endswith(b"seen")


@pytest.mark.parametrize(
    "headers",
    [b"X: " + b"a" * MAX_HEADER_BYTES + b"\r\n", b"X-Another: a\r\n" * (MAX_HEADER_BYTES // 8)],
    ids=["one", "many"],
)
def test_headers_above_the_limit_are_refused_with_a_problem(
    connection: socket.socket, headers: bytes
) -> None:
    connection.sendall(REQUEST + headers + b"\r\n")
    head, _, body = received(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert b"application/problem+json" in head
    document = json.loads(body)
    assert document["code"] == "headers-too-large"
    assert document["limit_bytes"] == MAX_HEADER_BYTES


@pytest.mark.parametrize(
    "start", [REQUEST + b"X: ", REQUEST, b"GET /"], ids=["header", "headers", "path"]
)
def test_head_that_does_not_end_is_cut_off(connection: socket.socket, start: bytes) -> None:
    piece = b"X: a\r\n" * 1000 if start is REQUEST else b"a" * 6000
    connection.sendall(start)
    sent = 0
    while not is_readable(connection):
        assert sent < 1_000_000
        connection.sendall(piece)
        sent += len(piece)
    answered = received(connection)
    assert answered.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answered.partition(b"\r\n\r\n")[2])["code"] == "headers-too-large"
    assert connection.recv(1) == b""


def test_head_that_does_not_end_does_not_disturb_the_answer_before_it(
    connection: socket.socket,
) -> None:
    connection.sendall(REQUEST + b"\r\n" + REQUEST + b"X: ")
    assert received(connection).endswith(b"seen")


def test_next_request_of_a_connection_is_counted_anew(connection: socket.socket) -> None:
    headers = b"X: " + b"a" * (MAX_HEADER_BYTES - 100) + b"\r\n\r\n"
    for _ in range(5):
        connection.sendall(REQUEST + headers)
        assert received(connection).endswith(b"seen")


def test_body_is_no_head(connection: socket.socket) -> None:
    body = b"a" * 1_000_000
    connection.sendall(b"POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 1000000\r\n\r\n" + body)
    assert received(connection).endswith(b"seen")
    connection.sendall(REQUEST + b"\r\n")
    assert received(connection).endswith(b"seen")
