"""How many requests a key and an address may make: counted by this process, in bounded memory."""

import math
import time
from collections import Counter
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from limits import RateLimitItem, parse

from api.errors.types import RateLimited

FAILURES_PER_ADDRESS: Final = "30/minute"
"""Requests without a known key. Whoever has one is let in all the same: nobody is locked out by
others behind the same address, and a key can't be guessed at any rate."""
_MAX_COUNTED: Final = 10_000
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
    """One limit, for many who are each counted for themselves.

    A sliding window of two counters: of the window before, as much counts as it still covers of
    the time up to now. The library's own does the same, in a tenth of a request's time.
    """

    def __init__(self, whose: str, limit: str) -> None:
        self._whose = whose
        self._item = parse(limit)
        self._seconds = self._item.get_expiry()
        self._window = 0
        self._before: Counter[str] = Counter()
        self._now: Counter[str] = Counter()

    def count(self, who: str) -> RateLimited | None:
        window, passed = divmod(time.monotonic(), self._seconds)
        self._begin(int(window))
        if who not in self._now and len(self._now) >= _MAX_COUNTED:
            who = _OTHERS  # share one count until the window is over
        before, now = self._before.get(who, 0), self._now.get(who, 0)
        left = self._seconds - passed
        if math.floor(before * left / self._seconds) + now < self._item.amount:
            self._now[who] = now + 1
            return None
        # Until then the window before fades by one request, or this one is over.
        seconds = min(left, self._seconds / before) if before else left
        return RateLimited(self._whose, describe(self._item), max(1, math.ceil(seconds)))

    def _begin(self, window: int) -> None:
        if window != self._window:
            self._before = self._now if window == self._window + 1 else Counter()
            self._window, self._now = window, Counter()


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
