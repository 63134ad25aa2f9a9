"""What servers may say on a connection that is kept for the next call."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from twinlane_sdk.allow_lists import HostAllowList
from worker_io.fetching import connections
from worker_io.fetching.fetcher import Fetcher, FetchLimits
from worker_runtime.cancellation import JobCancellation

LOCAL = HostAllowList.parse("127.0.0.1")
SECONDS = 30.0
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n"
TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Server:
    """Answers by hand, one request on one connection after the other."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

    def accept(self) -> socket.socket:
        connection, _ = self._listener.accept()
        connection.settimeout(SECONDS)
        return connection


@contextmanager
def serving() -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)
        yield Server(listener)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def fetcher() -> Fetcher:
    return Fetcher(LOCAL, FetchLimits(), LOCAL)


def status(fetcher: Fetcher, server: Server) -> int:
    return fetcher.fetch(server.url, SECONDS, JobCancellation()).status


def answer(connection: socket.socket, content: bytes) -> None:
    assert connection.recv(4096).startswith(b"GET / HTTP/1.1\r\n")
    connection.sendall(content)


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_connection_is_used_again(fetcher: Fetcher, server: Server) -> None:
    with ThreadPoolExecutor() as pool:
        calls = pool.submit(lambda: [status(fetcher, server) for _ in range(3)])
        with server.accept() as connection:
            for _ in range(3):
                answer(connection, OK)
            assert calls.result(SECONDS) == [200] * 3


def test_early_hints_are_no_answer(fetcher: Fetcher, server: Server) -> None:
    with ThreadPoolExecutor() as pool:
        call = pool.submit(status, fetcher, server)
        with server.accept() as connection:
            answer(connection, HINTS + HINTS + OK)
            assert call.result(SECONDS) == 200


@pytest.mark.parametrize("is_together", [True, False])
def test_answer_that_nobody_asked_for_is_not_taken_for_the_next(
    fetcher: Fetcher, server: Server, *, is_together: bool
) -> None:
    """Proxies tell a client that it has been silent for too long, and close."""
    with ThreadPoolExecutor() as pool:
        first = pool.submit(status, fetcher, server)
        with server.accept() as connection:
            answer(connection, OK + TIMEOUT if is_together else OK)
            assert first.result(SECONDS) == 200
            if not is_together:
                connection.sendall(TIMEOUT)
            second = pool.submit(status, fetcher, server)
            with server.accept() as other:
                answer(other, OK)
                assert second.result(SECONDS) == 200


def test_no_more_connections_are_kept_than_may_be(
    fetcher: Fetcher, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_MAX_IDLE", 1)
    with serving() as other, ThreadPoolExecutor() as pool:
        calls = pool.submit(lambda: [status(fetcher, each) for each in (server, other, server)])
        with server.accept() as kept:
            answer(kept, OK)
            with other.accept() as closed:
                answer(closed, OK)
                assert is_closed(closed)
            answer(kept, OK)
            assert calls.result(SECONDS) == [200] * 3
