import time

import pytest

from api.auth.rate_limits import _MAX_COUNTED, RateLimits, check_limit
from api.errors.types import RateLimited


def counted(limits: RateLimits, name: str, address: str, times: int) -> list[RateLimited | None]:
    return [limits.count(name, address) for _ in range(times)]


def test_requests_up_to_the_limit_pass_and_the_next_says_when_to_come_back() -> None:
    limits = RateLimits(per_key="3/minute", per_address="100/minute")
    *passed, refused = counted(limits, "ci", "192.0.2.1", 4)
    assert passed == [None] * 3
    assert refused is not None
    assert refused.members == {"limit": "3 requests per minute"}
    assert 1 <= int(refused.headers["Retry-After"]) <= 120
    assert "3 requests per minute" in refused.detail


def test_what_was_counted_fades_in_the_window_after(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = RateLimits(per_key="10/minute", per_address="100/minute")
    monkeypatch.setattr(time, "monotonic", lambda: 60.0)
    counted(limits, "ci", "192.0.2.1", 10)
    monkeypatch.setattr(time, "monotonic", lambda: 120.0 + 30)  # half of them count
    *passed, refused = counted(limits, "ci", "192.0.2.1", 6)
    assert passed == [None] * 5
    assert refused is not None
    assert refused.headers["Retry-After"] == "6"  # when one more of the ten has faded
    monkeypatch.setattr(time, "monotonic", lambda: 300.0)  # a window in which nothing came
    assert counted(limits, "ci", "192.0.2.1", 10) == [None] * 10


def test_each_key_has_a_limit_of_its_own() -> None:
    limits = RateLimits(per_key="3/minute", per_address="100/minute")
    counted(limits, "ci", "192.0.2.1", 4)
    assert limits.count("ops", "192.0.2.1") is None


def test_an_address_has_a_limit_whatever_keys_it_uses() -> None:
    limits = RateLimits(per_key="100/minute", per_address="3/minute")
    passed = [limits.count(f"key-{n}", "192.0.2.1") for n in range(4)]
    assert [refusal is None for refusal in passed] == [True, True, True, False]
    assert limits.count("key-0", "192.0.2.2") is None


def test_requests_without_a_key_have_a_tighter_limit_and_lock_nobody_out() -> None:
    limits = RateLimits(per_key="1000/second", per_address="1000/second")
    failures = [limits.count_failure("192.0.2.1") for _ in range(31)]
    assert failures[:30] == [None] * 30
    assert failures[30] is not None
    assert limits.count("ci", "192.0.2.1") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8::1", "2001:db8::ffff:2"), ("::ffff:192.0.2.1", "192.0.2.1")],
)
def test_addresses_of_one_client_are_counted_together(one: str, other: str) -> None:
    limits = RateLimits(per_key="100/minute", per_address="1/minute")
    assert limits.count("ci", one) is None
    assert limits.count("ci", other) is not None


def test_neighbours_are_counted_apart() -> None:
    limits = RateLimits(per_key="100/minute", per_address="1/minute")
    assert limits.count("ci", "2001:db8:0:1::1") is None
    assert limits.count("ci", "2001:db8:0:2::1") is None


def test_memory_does_not_grow_with_the_addresses_that_fail() -> None:
    limits = RateLimits(per_key="1/second", per_address="1/second")
    for n in range(_MAX_COUNTED + 500):
        limits.count_failure(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    failures = limits._failures  # noqa: SLF001 - how much is kept can't be seen from outside
    kept = [*failures._now, *failures._before]  # noqa: SLF001
    assert len(kept) <= 2 * (_MAX_COUNTED + 1)


@pytest.mark.parametrize("limit", ["1000/second", "10 per minute", "5/2 hours"])
def test_usable_limit_is_kept_as_it_is(limit: str) -> None:
    assert check_limit(limit) == limit


@pytest.mark.parametrize(
    "limit", ["", "1000", "0/second", "-1/second", "many/second", "1/fortnight"]
)
def test_unusable_limit_is_refused(limit: str) -> None:
    with pytest.raises(ValueError, match="is not like 1000/second"):
        check_limit(limit)
