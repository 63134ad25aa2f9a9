"""GETs addresses on allowed hosts: bounded in time, size, redirects and number at once.

Synchronous outside, for task threads; inside, connections on one event loop. No HTTP client
is involved, so there are no cookies that jobs could share, and no proxies from the environment that
could undo the check of where a connection leads.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple
from urllib.parse import urljoin, urlsplit
from weakref import WeakValueDictionary

import h11

from twinlane_sdk.allow_lists import HostAllowList
from twinlane_sdk.errors import DeadlineExceededError, RejectedError, RetryableError
from twinlane_sdk.job import Cancellation
from worker_io.fetching.connections import BrokenConnectionError, Connections
from worker_io.fetching.event_loop import EventLoopThread
from worker_io.fetching.public_addresses import PublicConnector, Resolve

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TOO_MANY_REQUESTS: Final = 429
_FIRST_SERVER_ERROR: Final = 500
_HEADERS: Final = (("User-Agent", "twinlane"), ("Accept", "*/*"), ("Accept-Encoding", "identity"))


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one address may take (time with redirects and body), and how many are called at once.

    The bounds hold for one process; `fan_out_concurrency` for one call of `fetch_all`.
    """

    timeout_seconds: float = 20
    max_bytes: int = 10 * 1024 * 1024
    max_redirects: int = 5
    max_connections: int = 512
    max_per_host: int = 512
    fan_out_concurrency: int = 100


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The response of an address, at the end of its redirects. The body is counted, not kept."""

    url: str
    status: int
    elapsed_seconds: float
    size_bytes: int
    content_type: str | None


class _Response(NamedTuple):
    """The response to one request, which may be a redirect."""

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
        """Call hosts on `allowed` only; those on `private_hosts` may be at private addresses."""
        self._allowed = allowed
        self._limits = limits
        self._connector = PublicConnector(private_hosts, resolve)
        self._loop = EventLoopThread()
        # Waiting for a slot does not count as the address's time.
        self._slots = asyncio.Semaphore(limits.max_connections)
        # A host's slots exist as long as somebody calls it or waits for it.
        self._slots_by_host: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def fetch(self, url: str, deadline_seconds: float, cancellation: Cancellation) -> FetchResult:
        """GET one address.

        Raises:
            RejectedError: a host, also of a redirect, is not allowed or at no public address;
                or too large an answer.
            RetryableError: no answer in time, a broken connection, a 429 or 5xx.
            DeadlineExceededError: the deadline passed before there was a free slot and an answer.
            JobCancelledError: the job was cancelled before there was an answer.

        """
        self._allowed.admit(url)
        cancellation.stop_if_cancelled()
        future = self._loop.submit(self._fetch(url))
        with _cancelling([future], cancellation):
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
        on_done: Callable[[int], None],
        cancellation: Cancellation,
    ) -> list[FetchResult]:
        """GET all addresses at the same time; `on_done` gets the number of those done.

        All or nothing: nothing is called if one of the hosts is refused, and one address that fails
        makes the whole call fail; but all others are awaited first, so that the error says how many
        failed.

        Raises:
            RejectedError, RetryableError, DeadlineExceededError, JobCancelledError: as `fetch`.

        """
        for url in urls:
            self._allowed.admit(url)
        cancellation.stop_if_cancelled()
        slots = asyncio.Semaphore(self._limits.fan_out_concurrency)
        futures = [self._loop.submit(self._fetch_in_slot(url, slots)) for url in urls]
        with _cancelling(futures, cancellation):
            try:
                for done, _ in enumerate(as_completed(futures, deadline_seconds), 1):
                    cancellation.stop_if_cancelled()
                    on_done(done)
            except TimeoutError as exc:
                raise DeadlineExceededError(
                    f"{len(urls)} addresses were not all answered in {deadline_seconds:.0f} s"
                ) from exc
        return _all_results(futures)

    async def _fetch_in_slot(self, url: str, slots: asyncio.Semaphore) -> FetchResult:
        async with slots:
            return await self._fetch(url)

    async def _fetch(self, url: str) -> FetchResult:
        # The host's slot first: calls that wait for a busy host must not keep others from theirs.
        # First come, first served; a redirect counts for the host that was asked for.
        async with self._slots_of(urlsplit(url).hostname or ""), self._slots:
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._limits.timeout_seconds):
                    response = await self._get(url)
            except TimeoutError as exc:
                seconds = self._limits.timeout_seconds
                raise RetryableError(f"{url} did not answer in {seconds:g} s") from exc
            except BrokenConnectionError as exc:
                raise RetryableError(f"{url} could not be fetched: {exc}") from exc
        if response.status == _TOO_MANY_REQUESTS or response.status >= _FIRST_SERVER_ERROR:
            raise RetryableError(f"{url} answered {response.status}")
        elapsed = round(time.monotonic() - started, 3)
        return FetchResult(
            url, response.status, elapsed, response.size_bytes, response.content_type
        )

    def _slots_of(self, host: str) -> asyncio.Semaphore:
        slots = self._slots_by_host.get(host)
        if slots is None:
            slots = self._slots_by_host[host] = asyncio.Semaphore(self._limits.max_per_host)
        return slots

    async def _get(self, url: str) -> _Response:
        target = url
        for _ in range(self._limits.max_redirects + 1):
            target = self._allowed.admit(target)
            response = await self._request(target)
            if response.redirects_to is None:
                return response
            target = response.redirects_to
        raise RejectedError(f"{url} redirects more than {self._limits.max_redirects} times")

    async def _request(self, url: str) -> _Response:
        async with self._connections.get(url, _HEADERS) as (response, body):
            content_type = _header(response, b"content-type")
            location = _header(response, b"location")
            if response.status_code in _REDIRECTS and location is not None:
                return _Response(response.status_code, 0, content_type, _resolved(url, location))
            return _Response(response.status_code, await self._size(url, body), content_type)

    async def _size(self, url: str, body: AsyncIterator[bytes]) -> int:
        size = 0
        async for chunk in body:
            size += len(chunk)
            if size > self._limits.max_bytes:
                raise RejectedError(
                    f"{url} answers with more than {self._limits.max_bytes:,} bytes"
                )
        return size

    @cached_property
    def _connections(self) -> Connections:
        # Made by the first call, on the loop's thread: nothing may be open when processes fork.
        return Connections(self._connector)


def _header(response: h11.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in response.headers if key == name), None)


def _resolved(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as exc:
        raise RejectedError(f"{url} redirects to what is no address") from exc


@contextmanager
def _cancelling(
    futures: "Sequence[Future[FetchResult]]", cancellation: Cancellation
) -> Iterator[None]:
    """Cancel what is not done when the job is cancelled, and at the end."""

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


def _all_results(futures: "Sequence[Future[FetchResult]]") -> list[FetchResult]:
    """Return all results, or raise one error for all that failed: a retryable one if all are."""
    errors = [error for future in futures if (error := future.exception()) is not None]
    if not errors:
        return [future.result() for future in futures]
    first = next((error for error in errors if not isinstance(error, RetryableError)), errors[0])
    if isinstance(first, RetryableError | RejectedError):
        raise type(first)(
            f"{len(errors)} of {len(futures)} addresses failed, one of them so: {first}"
        ) from first
    raise first
