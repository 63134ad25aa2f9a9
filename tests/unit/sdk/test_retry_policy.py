from twinlane_sdk.retry_policy import RetryPolicy


def test_backoff_doubles_up_to_its_maximum() -> None:
    policy = RetryPolicy(max_attempts=9, base_seconds=2, max_seconds=20)
    assert [policy.backoff_seconds(n, 0.0) for n in range(1, 7)] == [2, 4, 8, 16, 20, 20]


def test_jitter_takes_away_up_to_half_of_the_backoff() -> None:
    policy = RetryPolicy(max_attempts=9, base_seconds=8, max_seconds=60)
    waits = [policy.backoff_seconds(2, jitter / 100) for jitter in range(100)]
    assert (max(waits), min(waits)) == (16, 8)
    assert waits == sorted(waits, reverse=True)


def test_backoff_of_a_thousandth_attempt_is_still_a_number() -> None:
    assert RetryPolicy(max_attempts=2_000).backoff_seconds(1_000, 0.0) == 60
