"""Clients as good ones are: they keep to Retry-After and repeat with the same Idempotency-Key."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import httpx2

from e2e.client import Json

DOCUMENTED: Final = {
    "broker-unavailable",
    "lane-full",
    "results-unavailable",
    "outcome-unknown",
    "overloaded",
}
"""Codes of the 503s that a client has to live with."""

_PATIENCE_SECONDS: Final = 60
_MAX_WAIT_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Answer:
    """How a request went: its status, or 0 when the connection failed."""

    status: int
    code: str
    seconds: float
    at: float
    """When the request began, as time.time() says."""
    body: Any = None
    headers: httpx2.Headers = field(default_factory=httpx2.Headers)


class Client:
    """One client with its own connection; it remembers every answer that was no success."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx2.Client(base_url=url, timeout=30)
        self.setbacks: list[Answer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def request(self, method: str, path: str, **options: Any) -> Answer:  # noqa: ANN401 - httpx2's own
        """Ask once, and return whatever comes of it."""
        at, started = time.time(), time.monotonic()
        try:
            got = self._http.request(method, path, **options)
        except httpx2.HTTPError as exc:
            return Answer(0, type(exc).__name__, time.monotonic() - started, at)
        seconds = time.monotonic() - started
        is_json = "json" in got.headers.get("Content-Type", "")
        body = got.json() if is_json else got.content
        code = body.get("code", "") if isinstance(body, dict) else ""
        return Answer(got.status_code, str(code), seconds, at, body, got.headers)

    def persist(self, method: str, path: str, **options: Any) -> Answer:  # noqa: ANN401 - the same
        """Ask until it is answered with anything but a 503; keep the others as setbacks.

        Raises:
            AssertionError: it never was.

        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            answer = self.request(method, path, **options)
            if answer.status not in {0, 503}:
                return answer
            self.setbacks.append(answer)
            assert time.monotonic() < deadline, f"{method} {path}: {answer} to the last"
            wait = float(answer.headers.get("Retry-After", 0.2))
            time.sleep(min(wait, _MAX_WAIT_SECONDS))

    def submit(
        self,
        task: str,
        args: Json,
        key: str | None = None,
        **params: float,
    ) -> str:
        """Submit a job, as often as it takes, and return its id."""
        answer = self.persist(
            "POST",
            f"/v1/tasks/{task}/jobs",
            json=args,
            params=params,
            headers={"Idempotency-Key": key or str(uuid.uuid4())},
        )
        assert answer.status == 202, answer
        job_id: str = answer.body["id"]
        return job_id

    def job(self, job_id: str, wait: float = 0) -> Json:
        """Return a job as it is."""
        answer = self.persist("GET", f"/v1/jobs/{job_id}", params={"wait": wait})
        assert answer.status == 200, answer
        job: Json = answer.body
        return job


def undocumented(setbacks: list[Answer]) -> Counter[tuple[int, str]]:
    """Return the answers that no client has to expect; a failed connection is for the caller."""
    return Counter(
        (answer.status, answer.code)
        for answer in setbacks
        if answer.status and (answer.status != 503 or answer.code not in DOCUMENTED)
    )


class Livez:
    """Asks /livez again and again from a thread of its own, and keeps how long each took."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.seconds: list[float] = []
        self.failures = 0

    def p99(self) -> float:
        ordered = sorted(self.seconds)
        assert ordered, "/livez was never asked"
        return ordered[int(len(ordered) * 0.99)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        with Client(self._url) as client:
            while not self._done.wait(0.01):
                answer = client.request("GET", "/livez")
                self.seconds.append(answer.seconds)
                self.failures += answer.status != 200


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Do `work(0) … work(count - 1)` at the same time; fail with the first of their errors."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as exc:  # noqa: BLE001 - raised again below
            errors.append(exc)

    threads = [threading.Thread(target=run, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
