import socket
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import pytest

from servers import eventually
from twinlane_sdk.allow_lists import HostAllowList
from twinlane_sdk.errors import (
    DeadlineExceededError,
    JobCancelledError,
    RejectedError,
    RetryableError,
)
from worker_io.fetching.fetcher import Fetcher, FetchLimits, FetchResult
from worker_runtime.cancellation import JobCancellation

LIMITS = FetchLimits(timeout_seconds=10, max_bytes=50_000, max_redirects=3)
ALLOWED = HostAllowList.parse("127.0.0.1")
DEADLINE = 30.0
NEVER = JobCancellation()
"""That of a job that nobody cancels."""


class Httpbin(Protocol):
    url: str
    paths: list[str]


@pytest.fixture(scope="module")
def fetcher() -> Fetcher:
    return Fetcher(ALLOWED, LIMITS, ALLOWED)


@contextmanager
def silent_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def answer_one(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def ignore(_: int) -> None:
    """Take the number of those done."""


def test_answer_says_status_size_type_and_time(httpbin: Httpbin, fetcher: Fetcher) -> None:
    answer = fetcher.fetch(f"{httpbin.url}/bytes/321", DEADLINE, NEVER)
    assert answer == replace(
        FetchResult(f"{httpbin.url}/bytes/321", 200, 0, 321, "application/octet-stream"),
        elapsed_seconds=answer.elapsed_seconds,
    )
    assert 0 < answer.elapsed_seconds < DEADLINE


@pytest.mark.parametrize("status", [204, 400, 401, 404, 410])
def test_a_client_error_is_an_answer(httpbin: Httpbin, fetcher: Fetcher, status: int) -> None:
    assert fetcher.fetch(f"{httpbin.url}/status/{status}", DEADLINE, NEVER).status == status


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(
    httpbin: Httpbin, fetcher: Fetcher, status: int
) -> None:
    with pytest.raises(RetryableError, match=f"/status/{status} answered {status}"):
        fetcher.fetch(f"{httpbin.url}/status/{status}", DEADLINE, NEVER)


def test_slow_answer_is_retryable_and_named(httpbin: Httpbin) -> None:
    hasty = Fetcher(ALLOWED, replace(LIMITS, timeout_seconds=0.2), ALLOWED)
    with pytest.raises(RetryableError, match=r"/delay/3 did not answer in 0\.2 s"):
        hasty.fetch(f"{httpbin.url}/delay/3", DEADLINE, NEVER)


def test_slow_body_cannot_outlast_the_timeout(httpbin: Httpbin) -> None:
    hasty = Fetcher(ALLOWED, replace(LIMITS, timeout_seconds=0.5), ALLOWED)
    started = time.monotonic()
    with pytest.raises(RetryableError, match="did not answer"):
        hasty.fetch(f"{httpbin.url}/drip?duration=5&numbytes=50", DEADLINE, NEVER)
    assert time.monotonic() - started < 3


def test_server_that_says_nothing_is_retryable() -> None:
    hasty = Fetcher(ALLOWED, replace(LIMITS, timeout_seconds=0.2), ALLOWED)
    with silent_port() as port, pytest.raises(RetryableError, match="did not answer"):
        hasty.fetch(f"http://127.0.0.1:{port}/", DEADLINE, NEVER)


def test_kept_connection_that_the_server_closed_is_replaced(fetcher: Fetcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        calls = pool.submit(lambda: [fetcher.fetch(url, DEADLINE, NEVER).status for _ in range(2)])
        first, _ = server.accept()
        answer_one(first)
        with first:
            first.recv(4096)  # the second request; it gets no answer
        second, _ = server.accept()
        with second:
            answer_one(second)
        assert calls.result(DEADLINE) == [200, 200]


def test_refused_connection_is_retryable_and_named(fetcher: Fetcher) -> None:
    with silent_port() as port:
        pass
    with pytest.raises(RetryableError, match=f":{port}/ could not be fetched: .*[Cc]onn"):
        fetcher.fetch(f"http://127.0.0.1:{port}/", DEADLINE, NEVER)


def test_jobs_deadline_holds_whatever_the_timeout(httpbin: Httpbin, fetcher: Fetcher) -> None:
    with pytest.raises(DeadlineExceededError, match="was not answered in 0 s"):
        fetcher.fetch(f"{httpbin.url}/delay/3", 0.2, NEVER)


def test_refused_host_is_never_called(httpbin: Httpbin, fetcher: Fetcher) -> None:
    with pytest.raises(RejectedError, match="host 'localhost' is not on the list"):
        fetcher.fetch(httpbin.url.replace("127.0.0.1", "localhost"), DEADLINE, NEVER)
    assert httpbin.paths == []


@pytest.mark.parametrize("path", ["bytes", "stream-bytes"])
def test_too_large_answer_is_rejected(httpbin: Httpbin, fetcher: Fetcher, path: str) -> None:
    assert fetcher.fetch(f"{httpbin.url}/{path}/50000", DEADLINE, NEVER).size_bytes == 50_000
    with pytest.raises(RejectedError, match="answers with more than 50,000 bytes"):
        fetcher.fetch(f"{httpbin.url}/{path}/50001", DEADLINE, NEVER)


def test_redirects_are_followed(httpbin: Httpbin, fetcher: Fetcher) -> None:
    answer = fetcher.fetch(f"{httpbin.url}/redirect/3", DEADLINE, NEVER)
    assert (answer.status, answer.url) == (200, f"{httpbin.url}/redirect/3")


def test_redirects_are_limited(httpbin: Httpbin, fetcher: Fetcher) -> None:
    with pytest.raises(RejectedError, match="/redirect/4 redirects more than 3 times"):
        fetcher.fetch(f"{httpbin.url}/redirect/4", DEADLINE, NEVER)


@pytest.mark.parametrize("target", ["http://localhost/x", "//localhost/x", "http://u:p@127.0.0.1/"])
def test_redirect_to_a_refused_host_is_not_followed(
    httpbin: Httpbin, fetcher: Fetcher, target: str
) -> None:
    with pytest.raises(RejectedError, match="is not"):
        fetcher.fetch(f"{httpbin.url}/redirect-to?url={target}", DEADLINE, NEVER)
    assert httpbin.paths == ["/redirect-to"]


@pytest.mark.parametrize(
    "address",
    [
        "http://user:hunter2@127.0.0.1/",
        "http://user:hunter2@127.0.0.1:99999/",
        "http://user:hunt/er2@127.0.0.1/",
        "ftp://user:hunter2@127.0.0.1/",
    ],
)
def test_password_in_an_address_is_never_repeated(fetcher: Fetcher, address: str) -> None:
    with pytest.raises(RejectedError) as asked:
        fetcher.fetch(address, DEADLINE, NEVER)
    with pytest.raises(RejectedError) as fanned_out:
        fetcher.fetch_all([address], DEADLINE, ignore, NEVER)
    for refusal in (asked, fanned_out):
        assert "hunt" not in "".join(traceback.format_exception(refusal.value))


def test_password_in_a_redirect_is_never_repeated(httpbin: Httpbin, fetcher: Fetcher) -> None:
    for target in ("http://user:hunter2@127.0.0.1/", "ftp://user:hunter2@127.0.0.1/"):
        with pytest.raises(RejectedError) as refusal:
            fetcher.fetch(f"{httpbin.url}/redirect-to?url={target}", DEADLINE, NEVER)
        assert "hunt" not in "".join(traceback.format_exception(refusal.value))


def test_redirect_to_no_web_address_is_refused(httpbin: Httpbin, fetcher: Fetcher) -> None:
    with pytest.raises((RejectedError, RetryableError), match="passwd"):
        fetcher.fetch(f"{httpbin.url}/redirect-to?url=file:///etc/passwd", DEADLINE, NEVER)


def test_jobs_do_not_share_cookies(httpbin: Httpbin, fetcher: Fetcher) -> None:
    without = fetcher.fetch(f"{httpbin.url}/cookies", DEADLINE, NEVER).size_bytes
    fetcher.fetch(f"{httpbin.url}/cookies/set?a=secret", DEADLINE, NEVER)
    assert fetcher.fetch(f"{httpbin.url}/cookies", DEADLINE, NEVER).size_bytes == without


def test_threads_share_one_loop_and_wait_together(httpbin: Httpbin, fetcher: Fetcher) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda _: fetcher.fetch(f"{httpbin.url}/delay/1", DEADLINE, NEVER), range(20))
        )
    assert [answer.status for answer in answers] == [200] * 20
    assert time.monotonic() - started < 5


def test_fan_out_answers_in_order_and_counts(httpbin: Httpbin, fetcher: Fetcher) -> None:
    urls = [f"{httpbin.url}/delay/{delay}" for delay in (0.4, 0, 0.2)]
    counted: list[int] = []
    answers = fetcher.fetch_all(urls, DEADLINE, counted.append, NEVER)
    assert [answer.url for answer in answers] == urls
    assert counted == [1, 2, 3]


def test_fan_out_calls_at_the_same_time_within_its_bound(httpbin: Httpbin) -> None:
    def seconds(at_once: int) -> float:
        fetcher = Fetcher(ALLOWED, replace(LIMITS, fan_out_concurrency=at_once), ALLOWED)
        started = time.monotonic()
        fetcher.fetch_all([f"{httpbin.url}/delay/0.5"] * 6, DEADLINE, ignore, NEVER)
        return time.monotonic() - started

    assert seconds(at_once=6) < 1.5 <= seconds(at_once=2)


def test_host_is_called_at_most_so_often_at_the_same_time_and_others_do_not_wait_for_it(
    httpbin: Httpbin,
) -> None:
    names = HostAllowList.parse("127.0.0.1,localhost")
    polite = Fetcher(names, replace(LIMITS, max_connections=3, max_per_host=2), names)
    slow = [f"{httpbin.url}/delay/0.5"] * 6
    other = f"{httpbin.url}/bytes/1".replace("127.0.0.1", "localhost")
    with ThreadPoolExecutor() as pool:
        busy = pool.submit(polite.fetch_all, slow, DEADLINE, ignore, NEVER)
        assert eventually(lambda: len(httpbin.paths) == 2)
        assert polite.fetch(other, DEADLINE, NEVER).status == 200
        assert httpbin.paths == ["/delay/0.5", "/delay/0.5", "/bytes/1"]
        assert [answer.status for answer in busy.result(DEADLINE)] == [200] * 6


def test_fan_out_is_retried_whole_after_asking_everybody(
    httpbin: Httpbin, fetcher: Fetcher
) -> None:
    urls = [f"{httpbin.url}/status/{status}" for status in (503, 200, 404, 500)]
    with pytest.raises(
        RetryableError, match=r"2 of 4 addresses failed, .*/status/503 answered 503"
    ):
        fetcher.fetch_all(urls, DEADLINE, ignore, NEVER)
    assert len(httpbin.paths) == 4


def test_fan_out_with_an_answer_that_never_will_do_is_rejected(
    httpbin: Httpbin, fetcher: Fetcher
) -> None:
    urls = [f"{httpbin.url}/status/503", f"{httpbin.url}/bytes/50001"]
    with pytest.raises(RejectedError, match=r"2 of 2 addresses failed, .* more than 50,000 bytes"):
        fetcher.fetch_all(urls, DEADLINE, ignore, NEVER)


def test_fan_out_with_a_refused_host_calls_nobody(httpbin: Httpbin, fetcher: Fetcher) -> None:
    with pytest.raises(RejectedError, match="not on the list"):
        fetcher.fetch_all([f"{httpbin.url}/get", "http://localhost/"], DEADLINE, ignore, NEVER)
    assert httpbin.paths == []


def test_fan_out_ends_at_the_jobs_deadline(httpbin: Httpbin, fetcher: Fetcher) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceededError, match="2 addresses were not all answered"):
        fetcher.fetch_all([f"{httpbin.url}/delay/4"] * 2, 0.3, ignore, NEVER)
    assert time.monotonic() - started < 2


def cancel_once_called(httpbin: Httpbin, times: int, cancellation: JobCancellation) -> None:
    assert eventually(lambda: len(httpbin.paths) == times)
    cancellation.cancel()


def test_cancel_ends_a_call_that_is_under_way(httpbin: Httpbin, fetcher: Fetcher) -> None:
    cancellation = JobCancellation()
    with ThreadPoolExecutor() as pool:
        cancelling = pool.submit(cancel_once_called, httpbin, 1, cancellation)
        started = time.monotonic()
        with pytest.raises(JobCancelledError):
            fetcher.fetch(f"{httpbin.url}/delay/5", DEADLINE, cancellation)
        assert time.monotonic() - started < 3
        cancelling.result(DEADLINE)


def test_cancel_ends_all_calls_of_a_fan_out(httpbin: Httpbin) -> None:
    fetcher = Fetcher(ALLOWED, replace(LIMITS, fan_out_concurrency=2), ALLOWED)
    cancellation = JobCancellation()
    with ThreadPoolExecutor() as pool:
        cancelling = pool.submit(cancel_once_called, httpbin, 2, cancellation)
        started = time.monotonic()
        with pytest.raises(JobCancelledError):
            fetcher.fetch_all([f"{httpbin.url}/delay/5"] * 6, DEADLINE, ignore, cancellation)
        assert time.monotonic() - started < 3
        cancelling.result(DEADLINE)
    assert len(httpbin.paths) == 2


def test_cancel_between_two_answers_ends_a_fan_out(httpbin: Httpbin, fetcher: Fetcher) -> None:
    cancellation = JobCancellation()
    urls = [f"{httpbin.url}/delay/{delay}" for delay in (0, 5)]
    with pytest.raises(JobCancelledError):
        fetcher.fetch_all(urls, DEADLINE, lambda _: cancellation.cancel(), cancellation)


def test_job_cancelled_before_it_calls_calls_nobody(httpbin: Httpbin, fetcher: Fetcher) -> None:
    cancellation = JobCancellation()
    cancellation.cancel()
    with pytest.raises(JobCancelledError):
        fetcher.fetch(f"{httpbin.url}/delay/5", DEADLINE, cancellation)
    with pytest.raises(JobCancelledError):
        fetcher.fetch_all([f"{httpbin.url}/delay/5"], DEADLINE, ignore, cancellation)
    assert httpbin.paths == []


def test_cancel_of_one_job_leaves_the_calls_of_others_alone(
    httpbin: Httpbin, fetcher: Fetcher
) -> None:
    cancelled = JobCancellation()
    with ThreadPoolExecutor() as pool:
        other = pool.submit(fetcher.fetch, f"{httpbin.url}/delay/1", DEADLINE, NEVER)
        pool.submit(cancel_once_called, httpbin, 2, cancelled)
        with pytest.raises(JobCancelledError):
            fetcher.fetch(f"{httpbin.url}/delay/5", DEADLINE, cancelled)
        assert other.result(DEADLINE).status == 200
