"""Redis as the API uses it: connections that are waited for, and a bound on every use."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from api.errors.types import ResultsUnavailable

T = TypeVar("T")

_CONNECTIONS: Final = 50
_READINESS_KEY: Final = "twinlane:readiness"


class RedisClient:
    """A pool of connections; `timeout_seconds` bounds each use of one, waiting for it included."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self.client = Redis.from_pool(
            # Blocking: who finds all connections busy waits for one, instead of being refused.
            BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=timeout_seconds,
                socket_timeout=timeout_seconds,
                socket_connect_timeout=timeout_seconds,
                # Once more at once: a pooled connection does not survive a restart of Redis.
                retry=Retry(NoBackoff(), 1),
                health_check_interval=30,
            )
        )
        self._timeout_seconds = timeout_seconds

    def bounded(self) -> AbstractAsyncContextManager[None]:
        """Use Redis for as long as one use may take.

        Raises:
            ResultsUnavailable: it does not answer in time, or refuses.

        """
        return _bounded(self._timeout_seconds)

    async def ping(self) -> None:
        """Write something: Redis may be there and yet be full, or read-only.

        Raises:
            ResultsUnavailable: it is not written in time.

        """
        async with self.bounded():
            await self.client.set(_READINESS_KEY, "1", ex=60)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()


@asynccontextmanager
async def _bounded(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise ResultsUnavailable("Redis did not answer in time.") from exc
    except (RedisError, OSError) as exc:
        raise ResultsUnavailable(f"Redis can't be used: {exc}.") from exc


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the items in their order, at most `size` at once: what shares a round trip."""
    return (items[start : start + size] for start in range(0, len(items), size))
