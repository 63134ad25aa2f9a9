"""GETs addresses on allowed hosts: bounded in time, size, redirects and number at once.

Synchronous outside, for task threads; inside, connections on one event loop. They are no HTTP
client's: so there are no cookies that jobs could share, and no proxies from the environment that
could undo the check of where they lead.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urljoin, urlsplit
from weakref import WeakValueDictionary

import h11

from contracts.allow_lists import HostAllowList
from contracts.cancellation import Cancellation
from contracts.errors import DeadlineExceededError, RejectedError, RetryableError
from worker_io.fetching.connections import BrokenConnectionError, Connections
from worker_io.fetching.event_loop import EventLoopThread
from worker_io.fetching.public_addresses import PublicNetwork, Resolve

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TOO_MANY_REQUESTS: Final = 429
_FIRST_SERVER_ERROR: Final = 500
_HEADERS: Final = (("User-Agent", "twinlane"), ("Accept", "*/*"), ("Accept-Encoding", "identity"))


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one address may take (time with redirects and body), and how many are called at once.

    All of one process; `fan_out_concurrency` is of one call of `fetch_all`.
    """

    timeout_seconds: float = 20
    max_bytes: int = 10 * 1024 * 1024
    max_redirects: int = 5
    max_connections: int = 512
    max_per_host: int = 512
    fan_out_concurrency: int = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """How an address answered, at the end of its redirects. The body is counted, not kept."""

    url: str
    status: int
    elapsed_seconds: float
    size_bytes: int
    content_type: str | None


class _Reply(NamedTuple):
    """What one request was answered, a redirect perhaps."""

    status: int
    size_bytes: int
    content_type: str | None
    redirects_to: str | None = None


class Fetcher:
    """GETs for the threads of one process. The first call starts its event loop."""

    def __init__(
        self,
        allowed: HostAllowList,
        limits: FetchLimits,
        private_hosts: HostAllowList = HostAllowList(),  # noqa: B008 - frozen
        resolve: Resolve | None = None,
    ) -> None:
        """Take whom to call; those of them on `private_hosts` may be at private addresses."""
        self._allowed = allowed
        self._limits = limits
        self._network = PublicNetwork(private_hosts, resolve)
        self._loop = EventLoopThread()
        self._connections: Connections | None = None
        # Waiting for a turn does not count as the address's time; waiting in the pool would.
        self._turns = asyncio.Semaphore(limits.max_connections)
        # Whoever calls a host, or waits for it, keeps its entry alive.
        self._turns_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def fetch(self, url: str, deadline_seconds: float, cancellation: Cancellation) -> Answer:
        """GET one address.

        Raises:
            RejectedError: a host, also of a redirect, is not allowed or at no public address;
                or too large an answer.
            RetryableError: no answer in time, a broken connection, a 429 or 5xx.
            DeadlineExceededError: the deadline passed before there was a turn and an answer.
            JobCancelledError: the job was cancelled before there was an answer.

        """
        self._allowed.admit(url)
        cancellation.stop_if_cancelled()
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
        cancellation.stop_if_cancelled()
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
        # The host's first: who waits for a busy host keeps nobody from another. First come, first
        # served; a redirect counts for the host that was asked for.
        of_host = self._turns_at(urlsplit(url).hostname or "")
        async with of_host, self._turns:
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._limits.timeout_seconds):
                    reply = await self._get(url)
            except TimeoutError as exc:
                seconds = self._limits.timeout_seconds
                raise RetryableError(f"{url} did not answer in {seconds:g} s") from exc
            except BrokenConnectionError as exc:
                raise RetryableError(f"{url} could not be fetched: {exc}") from exc
        if reply.status == _TOO_MANY_REQUESTS or reply.status >= _FIRST_SERVER_ERROR:
            raise RetryableError(f"{url} answered {reply.status}")
        elapsed = round(time.monotonic() - started, 3)
        return Answer(url, reply.status, elapsed, reply.size_bytes, reply.content_type)

    def _turns_at(self, host: str) -> asyncio.Semaphore:
        turns = self._turns_of.get(host)
        if turns is None:
            turns = self._turns_of[host] = asyncio.Semaphore(self._limits.max_per_host)
        return turns

    async def _get(self, url: str) -> _Reply:
        target = url
        for _ in range(self._limits.max_redirects + 1):
            target = self._allowed.admit(target)
            reply = await self._ask(target)
            if reply.redirects_to is None:
                return reply
            target = reply.redirects_to
        raise RejectedError(f"{url} redirects more than {self._limits.max_redirects} times")

    async def _ask(self, url: str) -> _Reply:
        async with self._opened().get(url, _HEADERS) as (response, body):
            content_type = _header(response, b"content-type")
            location = _header(response, b"location")
            if response.status_code in _REDIRECTS and location is not None:
                return _Reply(response.status_code, 0, content_type, _joined(url, location))
            return _Reply(response.status_code, await self._size(url, body), content_type)

    async def _size(self, url: str, body: AsyncIterator[bytes]) -> int:
        size = 0
        async for chunk in body:
            size += len(chunk)
            if size > self._limits.max_bytes:
                raise RejectedError(
                    f"{url} answers with more than {self._limits.max_bytes:,} bytes"
                )
        return size

    def _opened(self) -> Connections:
        # Only ever called on the loop's thread, hence no lock.
        if self._connections is None:
            self._connections = Connections(self._network)
        return self._connections


def _header(response: h11.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in response.headers if key == name), None)


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as exc:
        raise RejectedError(f"{url} redirects to what is no address") from exc


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
