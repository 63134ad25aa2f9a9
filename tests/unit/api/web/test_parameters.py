import pytest

from api.web.parameters import MAX_WAIT_SECONDS, preferred_wait_seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=5", 5),
        ("WAIT=5", 5),
        ('wait="5"', 5),
        ("wait = 5", 5),
        ("respond-async, wait=10", 10),
        ("wait=10, handling=lenient", 10),
        ("respond-async; x=1, wait=10", 10),
        ("wait=3, wait=9", 3),
        ("wait=0", 0),
    ],
)
def test_wish_to_wait_is_read_as_the_rfc_writes_it(header: str, seconds: int) -> None:
    assert preferred_wait_seconds(header) == seconds


@pytest.mark.parametrize("header", ["wait=61", "wait=3600", "wait=999999"])
def test_nobody_waits_longer_than_a_minute(header: str) -> None:
    assert preferred_wait_seconds(header) == MAX_WAIT_SECONDS == 60


@pytest.mark.parametrize(
    "header",
    [None, "", "respond-async", "wait", "wait=", "wait=-5", "wait=1.5", "wait=soon", "await=5"],
)
def test_preference_that_can_not_be_read_is_ignored(header: str | None) -> None:
    assert preferred_wait_seconds(header) == 0
