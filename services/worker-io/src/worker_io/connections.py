"""Connections to servers: kept for a while, and as cheap to find among a thousand as among ten."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpcore2

_KEPT_SECONDS: Final = 5.0
_CALLS_OF_A_POOL: Final = 16


class Connections:
    """GETs through as many small connection pools as there are calls under way.

    One of httpcore2's pools looks at each of its connections when a call begins and when it ends:
    with 500 in one pool that took longer than all the rest of a call. Only for one event loop.
    """

    def __init__(self, network: httpcore2.AsyncNetworkBackend) -> None:
        self._network = network
        self._tls = httpcore2.default_ssl_context()  # or each connection makes its own
        self._calls: dict[httpcore2.AsyncConnectionPool, int] = {}
        """How many calls each pool has under way, the oldest pool first."""

    @asynccontextmanager
    async def get(
        self, url: str, headers: list[tuple[str, str]]
    ) -> AsyncIterator[httpcore2.Response]:
        """Send a GET; the body is there to be read while inside."""
        pool = self._with_room()
        self._calls[pool] += 1
        try:
            async with pool.stream("GET", url, headers=headers) as response:
                yield response
        finally:
            self._calls[pool] -= 1
            # The oldest keeps connections for the next calls; the others were for a rush.
            if not self._calls[pool] and pool is not next(iter(self._calls)):
                del self._calls[pool]
                await asyncio.shield(pool.aclose())

    def _with_room(self) -> httpcore2.AsyncConnectionPool:
        for pool, calls in self._calls.items():
            if calls < _CALLS_OF_A_POOL:
                return pool
        pool = httpcore2.AsyncConnectionPool(
            ssl_context=self._tls,
            max_connections=None,
            keepalive_expiry=_KEPT_SECONDS,
            network_backend=self._network,
        )
        self._calls[pool] = 0
        return pool
