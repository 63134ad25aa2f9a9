"""GETs addresses on allowed hosts: bounded in time, size, redirects and number at once.

Synchronous outside, for task threads; inside, one pooled client on one event loop.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, as_completed
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx2

from contracts.allow_lists import HostAllowList
from contracts.cancellation import Cancellation
from contracts.errors import DeadlineExceededError, RejectedError, RetryableError
from worker_io.event_loop import EventLoopThread

_TOO_MANY_REQUESTS: Final = 429
_FIRST_SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one address may take (time with redirects and body), and how many are called at once."""

    timeout_seconds: float = 20
    max_bytes: int = 10 * 1024 * 1024
    max_redirects: int = 5
    max_connections: int = 512
    fan_out_concurrency: int = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """How an address answered, at the end of its redirects. The body is counted, not kept."""

    url: str
    status: int
    elapsed_seconds: float
    size_bytes: int
    content_type: str | None


class Fetcher:
    """GETs for the threads of one process. The first call starts its event loop and its client."""

    def __init__(self, allowed: HostAllowList, limits: FetchLimits) -> None:
        self._allowed = allowed
        self._limits = limits
        self._loop = EventLoopThread()
        self._client: httpx2.AsyncClient | None = None
        # Waiting for a turn does not count as the address's time; waiting in the pool would.
        self._turns = asyncio.Semaphore(limits.max_connections)

    def fetch(self, url: str, deadline_seconds: float, cancellation: Cancellation) -> Answer:
        """GET one address.

        Raises:
            RejectedError: a host, also of a redirect, is not allowed; or too large an answer.
            RetryableError: no answer in time, a broken connection, a 429 or 5xx.
            DeadlineExceededError: the deadline passed before there was a turn and an answer.
            JobCancelledError: the job was cancelled before there was an answer.

        """
        self._allowed.admit(url)
        future = self._loop.submit(self._fetch(url))
        with _awaited([future], cancellation):
            try:
                return future.result(deadline_seconds)
            except TimeoutError as exc:
                raise DeadlineExceededError(
                    f"{url} was not answered in {deadline_seconds:.0f} s"
                ) from exc

    def fetch_all(
        self,
        urls: Sequence[str],
        deadline_seconds: float,
        on_answer: Callable[[int], None],
        cancellation: Cancellation,
    ) -> list[Answer]:
        """GET all addresses at the same time; `on_answer` gets the number of those done.

        All or nothing: nothing is called if one of the hosts is refused, and the answers are only
        worth something together, so one address that fails makes the whole call fail; but all
        others are awaited first, so that the error says how many it is about.

        Raises:
            RejectedError, RetryableError, DeadlineExceededError, JobCancelledError: as `fetch`.

        """
        for url in urls:
            self._allowed.admit(url)
        share = asyncio.Semaphore(self._limits.fan_out_concurrency)
        futures = [self._loop.submit(self._fetch_in_turn(url, share)) for url in urls]
        with _awaited(futures, cancellation):
            try:
                for done, _ in enumerate(as_completed(futures, deadline_seconds), 1):
                    cancellation.stop_if_cancelled()
                    on_answer(done)
            except TimeoutError as exc:
                raise DeadlineExceededError(
                    f"{len(urls)} addresses were not all answered in {deadline_seconds:.0f} s"
                ) from exc
        return _together(futures)

    async def _fetch_in_turn(self, url: str, share: asyncio.Semaphore) -> Answer:
        async with share:
            return await self._fetch(url)

    async def _fetch(self, url: str) -> Answer:
        async with self._turns:
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._limits.timeout_seconds):
                    status, size, content_type = await self._get(url)
            except TimeoutError as exc:
                seconds = self._limits.timeout_seconds
                raise RetryableError(f"{url} did not answer in {seconds:g} s") from exc
            except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
                reason = str(exc) or type(exc).__name__
                raise RetryableError(f"{url} could not be fetched: {reason}") from exc
        if status == _TOO_MANY_REQUESTS or status >= _FIRST_SERVER_ERROR:
            raise RetryableError(f"{url} answered {status}")
        return Answer(url, status, round(time.monotonic() - started, 3), size, content_type)

    async def _get(self, url: str) -> tuple[int, int, str | None]:
        target = url
        for _ in range(self._limits.max_redirects + 1):
            async with aclosing(await self._send(self._allowed.admit(target))) as response:
                if response.next_request is None:
                    size = await self._size(response)
                    return response.status_code, size, response.headers.get("content-type")
                target = str(response.next_request.url)
        raise RejectedError(f"{url} redirects more than {self._limits.max_redirects} times")

    async def _send(self, url: str) -> httpx2.Response:
        client = self._opened()
        try:
            return await client.send(client.build_request("GET", url), stream=True)
        except (httpx2.RemoteProtocolError, httpx2.ReadError):
            # A kept connection that its server was just closing; a GET may be repeated
            # (RFC 9110, section 9.2.2).
            return await client.send(client.build_request("GET", url), stream=True)

    async def _size(self, response: httpx2.Response) -> int:
        size = 0
        async for chunk in response.aiter_raw():  # raw: unpacking could fill the memory
            size += len(chunk)
            if size > self._limits.max_bytes:
                raise RejectedError(
                    f"{response.url} answers with more than {self._limits.max_bytes:,} bytes"
                )
        return size

    def _opened(self) -> httpx2.AsyncClient:
        # Only ever called on the loop's thread, hence no lock.
        if self._client is None:
            self._client = _client(self._limits)
        return self._client


def _client(limits: FetchLimits) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        # The client's own timeouts know neither redirects nor slow bodies: asyncio.timeout does.
        timeout=None,
        limits=httpx2.Limits(
            max_connections=None, max_keepalive_connections=limits.max_connections
        ),
        # Redirects are followed in _get, which asks the allow-list first.
        follow_redirects=False,
        headers={"user-agent": "twinlane", "accept-encoding": "identity"},
        # Jobs share the client and must not share their cookies.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )


@contextmanager
def _awaited(futures: "Sequence[Future[Answer]]", cancellation: Cancellation) -> Iterator[None]:
    """Cancel what is still awaited when the job is cancelled, and at the end."""

    def stop() -> None:
        for future in futures:
            future.cancel()

    try:
        with cancellation.calling(stop):
            yield
    except CancelledError:
        cancellation.stop_if_cancelled()
        raise
    finally:
        stop()


def _together(futures: "Sequence[Future[Answer]]") -> list[Answer]:
    errors = [error for future in futures if (error := future.exception()) is not None]
    if not errors:
        return [future.result() for future in futures]
    first = next((error for error in errors if not isinstance(error, RetryableError)), errors[0])
    if isinstance(first, RetryableError | RejectedError):
        raise type(first)(
            f"{len(errors)} of {len(futures)} addresses failed, one of them so: {first}"
        ) from first
    raise first
