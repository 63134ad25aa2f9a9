"""How many requests a key and an address may make: counted by this process, in bounded memory."""

import math
import time
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from api.errors import RateLimited

FAILURES_PER_ADDRESS: Final = "30/minute"
"""Requests without a known key. Whoever has one is let in all the same: nobody is locked out by
others behind the same address, and a key can't be guessed at any rate."""
_MAX_COUNTED: Final = 10_000
_SWEEP_SECONDS: Final = 1.0
_OTHERS: Final = "others"


class RateLimits:
    """Counts requests; two numbers are kept for each key and address, while they come."""

    def __init__(self, per_key: str, per_address: str) -> None:
        self._keys = _Limit("This key", per_key)
        self._addresses = _Limit("This address", per_address)
        self._failures = _Limit("Requests without a known key from here", FAILURES_PER_ADDRESS)

    def count(self, name: str, address: str) -> RateLimited | None:
        """Count a request with a key; return the refusal if it is one too many."""
        return self._addresses.count(_network(address)) or self._keys.count(name)

    def count_failure(self, address: str) -> RateLimited | None:
        """Count a request without a known key; return the refusal if it is one too many."""
        return self._failures.count(_network(address))


class _Limit:
    """One limit, for many who are each counted for themselves."""

    def __init__(self, whose: str, limit: str) -> None:
        self._whose = whose
        self._item = parse(limit)
        self._storage = _Counts()
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)

    def count(self, who: str) -> RateLimited | None:
        if len(self._storage.expirations) >= _MAX_COUNTED:
            who = _OTHERS  # share one count until the old ones have expired
        if self._limiter.hit(self._item, who):
            return None
        reset = self._limiter.get_window_stats(self._item, who).reset_time
        seconds = max(1, math.ceil(reset - time.time()))
        return RateLimited(self._whose, describe(self._item), seconds)


class _Counts(MemoryStorage):
    """The library's memory without its locks and its thread every 10 ms: one event loop counts.

    At 1,000 requests a second, the thread alone cost 80 µs of each.
    """

    _swept_at = 0.0

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a count that lives for `expiry` seconds, and forget those that are over."""
        now = time.time()
        if now > self._swept_at + _SWEEP_SECONDS:
            self._swept_at = now
            for old in [old for old, end in self.expirations.items() if end <= now]:
                del self.expirations[old], self.storage[old]
        self.expirations.setdefault(key, now + expiry)
        self.storage[key] += amount
        return self.storage[key]


def describe(item: RateLimitItem) -> str:
    """Return a limit in words: `1,000 requests per second`."""
    unit = item.GRANULARITY.name
    period = unit if item.multiples == 1 else f"{item.multiples} {unit}s"
    return f"{item.amount:,} requests per {period}"


def check_limit(text: str) -> str:
    """Return a limit that can be used, as it was.

    Raises:
        ValueError: it is not like `1000/second`.

    """
    try:
        usable = parse(text).amount > 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{text!r} is not like 1000/second, with second, minute or hour")
    return text


@lru_cache(maxsize=4096)
def _network(address: str) -> str:
    """Return what one client has of the address space: an IPv4 address, or an IPv6 /64."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
