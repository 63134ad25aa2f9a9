"""What surrounds every task at the worker: validation, retries, attempts, progress, big results.

`implement` binds a function to its TaskSpec. The function gets validated arguments and a Job; it
raises RetryableError or RejectedError to say what should happen next.
"""

import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

import obstore
from celery import Celery, Task
from obstore.exceptions import BaseError
from obstore.store import ObjectStore
from pydantic import ValidationError

from contracts.errors import RejectedError, RetryableError
from contracts.records import (
    PROGRESS_STATE,
    STARTED_STATE,
    Attempt,
    AttemptError,
    Progress,
    Running,
)
from contracts.schemas import Args, Result
from contracts.storage import artifact_key
from contracts.tasks import RetryPolicy, TaskSpec
from contracts.wire import ResultBackend

A = TypeVar("A", bound=Args)
R = TypeVar("R", bound=Result)

MAX_RESULT_BYTES: Final = 64 * 1024
RESULT_ARTIFACT: Final = "result.json"
STORED_RESULT: Final = "$artifact"
"""Key of the reference that stands in Redis for a result above MAX_RESULT_BYTES."""

_PROGRESS_INTERVAL_SECONDS: Final = 0.25
_HARD_LIMIT_GRACE_SECONDS: Final = 30

logger = logging.getLogger(__name__)


class Job:
    """What a running task may know of its job, and say about it."""

    def __init__(self, task: "Task[Any, Any]", spec: TaskSpec[Any, Any], earlier: Any) -> None:  # noqa: ANN401 - JSON
        request = task.request
        self.id = str(request.root_id or request.id)
        self.attempt: int = request.retries + 1
        self.deadline_seconds = spec.deadline.total_seconds()
        self._task = task
        self._spec = spec
        self._started_at = datetime.now(UTC)
        self._earlier = earlier
        self._next_report = 0.0

    def start(self) -> None:
        """Show that the task runs, where and since when."""
        self._store(STARTED_STATE, None)

    def report(
        self, current: int, total: int | None, unit: str, message: str | None = None
    ) -> None:
        """Publish progress in real units; calls closer than a quarter of a second are dropped."""
        now = time.monotonic()
        if now < self._next_report:
            return
        self._next_report = now + _PROGRESS_INTERVAL_SECONDS
        percent = round(100 * current / total, 1) if total else None
        progress = Progress(
            current=current, total=total, unit=unit, percent=percent, message=message
        )
        self._store(PROGRESS_STATE, progress)

    def result_of(self, spec: TaskSpec[Any, R]) -> R:
        """Return what the stage before left behind."""
        return spec.result.model_validate(self._earlier)

    def _store(self, state: str, progress: Progress | None) -> None:
        running = Running(
            worker=self._task.request.hostname, started_at=self._started_at, progress=progress
        )
        self._task.update_state(state=state, meta=running.model_dump(mode="json"))

    def end_attempt(self, error: Exception | None = None, backoff: int | None = None) -> None:
        """Append this attempt to the job's history; `backoff` is in seconds."""
        attempt = Attempt(
            number=self.attempt,
            task=self._spec.name,
            worker=self._task.request.hostname,
            started_at=self._started_at,
            ended_at=datetime.now(UTC),
            error=error and AttemptError(type=type(error).__name__, message=str(error)),
            backoff_seconds=backoff,
        )
        cast("ResultBackend", self._task.backend).append_attempt(self.id, attempt)


def implement(
    app: Celery,
    spec: TaskSpec[A, R],
    function: Callable[[A, Job], R],
    storage: ObjectStore,
) -> None:
    """Register `function` as the implementation of `spec`.

    A result above MAX_RESULT_BYTES goes to `storage` as the job's artifact `result.json`.
    """

    def run(task: "Task[Any, Any]", *earlier: Any, **fields: Any) -> Any:  # noqa: ANN401 - JSON
        job = Job(task, spec, earlier[0] if earlier else None)
        job.start()
        try:
            with _storage_faults_retried():
                result = function(_validated(spec, fields), job)
                payload = _bounded(result.model_dump(mode="json"), job, storage)
        except RetryableError as exc:
            backoff = _backoff(spec.retry, job.attempt)
            job.end_attempt(exc, backoff)
            if backoff is None:
                raise
            logger.warning("%s[%s]: %s; again in %d s", spec.name, job.id, exc, backoff)
            raise task.retry(countdown=backoff, exc=exc) from exc
        except Exception as exc:
            job.end_attempt(exc)
            raise
        job.end_attempt()
        return payload

    limit = int(spec.deadline.total_seconds())
    app.task(
        name=spec.name,
        bind=True,
        shared=False,  # Celery's default lets a second registration of a name lose silently
        max_retries=None,  # the policy decides, by not retrying
        soft_time_limit=limit,
        time_limit=limit + _HARD_LIMIT_GRACE_SECONDS,
    )(run)


@contextmanager
def _storage_faults_retried() -> Iterator[None]:
    try:
        yield
    except BaseError as exc:  # a missing object is a FileNotFoundError, and none of these
        raise RetryableError(f"the storage failed: {exc}") from exc


def _validated(spec: TaskSpec[A, Any], fields: dict[str, Any]) -> A:
    try:
        return spec.args.model_validate(fields)
    except ValidationError as exc:
        # Celery would store a ValidationError as a bare Exception.
        problems = "; ".join(
            f"{'.'.join(map(str, error['loc'])) or 'arguments'}: {error['msg']}"
            for error in exc.errors()
        )
        raise RejectedError(f"{spec.name} got invalid arguments: {problems}") from exc


def _backoff(policy: RetryPolicy, attempt: int) -> int | None:
    if attempt >= policy.max_attempts:
        return None
    return policy.backoff_seconds(attempt, random.random())  # noqa: S311 - jitter, not a secret


def _bounded(payload: dict[str, Any], job: Job, storage: ObjectStore) -> dict[str, Any]:
    encoded = json.dumps(payload).encode()
    if len(encoded) <= MAX_RESULT_BYTES:
        return payload
    obstore.put(storage, artifact_key(job.id, RESULT_ARTIFACT), encoded)
    return {STORED_RESULT: RESULT_ARTIFACT, "size_bytes": len(encoded)}
