"""What surrounds every task at the worker: validation, retries, attempts, cancels, big results.

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
from typing import Any, Final, NoReturn, TypeVar, cast

import obstore
from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # not in its stubs
from celery import Task
from celery.exceptions import Ignore, Reject
from obstore.exceptions import BaseError
from obstore.store import ObjectStore
from pydantic import ValidationError

from contracts.cancellation import Cancellation
from contracts.errors import (
    JobCancelledError,
    NeverFinishedError,
    RejectedError,
    RetryableError,
)
from contracts.lanes import DELIVERY_LIMIT
from contracts.records import Attempt, AttemptError, Meta, Progress, Running
from contracts.schemas import Args, Result
from contracts.storage import artifact_key
from contracts.tasks import RetryPolicy, TaskSpec
from contracts.wire import JobApp, ResultBackend, requeues_of

A = TypeVar("A", bound=Args)
R = TypeVar("R", bound=Result)
T = TypeVar("T")

MAX_RESULT_BYTES: Final = 64 * 1024
RESULT_ARTIFACT: Final = "result.json"
STORED_RESULT: Final = "$artifact"
"""Key of the reference that stands in Redis for a result above MAX_RESULT_BYTES."""

PUBLISH_PATIENCE_SECONDS: Final = 120.0
_PUBLISH_PAUSE_SECONDS: Final = 2.0
_SHOWN_RESULT_CHARACTERS: Final = 64
"""Of a result in the log and in Flower. Celery's 1,024 took a fifth of a trivial job's time."""
_PROGRESS_INTERVAL_SECONDS: Final = 0.25
_HARD_LIMIT_GRACE_SECONDS: Final = 30

logger = logging.getLogger(__name__)


class Job:
    """What a running task may know of its job, and say about it."""

    def __init__(
        self,
        task: "Task[Any, Any]",
        spec: TaskSpec[Any, Any],
        earlier: Any,  # noqa: ANN401 - JSON
        cancellation: Cancellation,
    ) -> None:
        request = task.request
        self.id = str(request.root_id or request.id)
        self.attempt: int = request.retries + 1
        self.deadline_seconds = spec.deadline.total_seconds()
        self.cancellation = cancellation
        self._task = task
        self._task_id = str(request.id)
        self._backend = cast("ResultBackend", task.backend)
        self._spec = spec
        self._requeues = requeues_of(request)
        self._started_at = datetime.now(UTC)
        self._earlier = earlier
        self._next_report = 0.0

    def begin(self) -> None:
        """Show that the task runs, where and since when.

        Raises:
            Ignore: it has ended already, or nobody wants it any more: there is nothing to do.
            NeverFinishedError: it was begun too often. RabbitMQ counts deliveries too, but from
                4.0 on not those after it has cancelled a consumer that took too long.

        """
        found = self._backend.begin(
            self._task_id,
            self.id,
            self._running(),
            self._requeues,
            redelivered=bool((self._task.request.delivery_info or {}).get("redelivered")),
        )
        if found.end:
            logger.info("%s[%s] was delivered again after its end", self._spec.name, self.id)
            raise Ignore
        if found.unfinished:
            self._append_unfinished(found.unfinished)
        if found.cancelled:
            self.end_as_cancelled()
        if found.redeliveries > DELIVERY_LIMIT:
            raise NeverFinishedError(
                f"it was begun {found.redeliveries + 1} times, and no run came to its end: "
                "it may take longer than the broker waits, or cost its worker its life"
            )

    def report(
        self, current: int, total: int | None, unit: str, message: str | None = None
    ) -> None:
        """Publish progress in real units; calls closer than a quarter of a second are dropped.

        Raises:
            JobCancelledError: nobody wants the job any more.

        """
        now = time.monotonic()
        if now < self._next_report:
            return
        self._next_report = now + _PROGRESS_INTERVAL_SECONDS
        percent = round(100 * current / total, 1) if total else None
        progress = Progress(
            current=current, total=total, unit=unit, percent=percent, message=message
        )
        running = self._running(progress)
        if self._backend.report(self._task_id, self.id, running, self._requeues):
            self.cancellation.cancel()
        self.cancellation.stop_if_cancelled()

    def result_of(self, spec: TaskSpec[Any, R]) -> R:
        """Return what the stage before left behind."""
        return spec.result.model_validate(self._earlier)

    def end_attempt(self, error: Exception | None = None, backoff: int | None = None) -> None:
        """Append this attempt to the job's history; `backoff` is in seconds.

        At once, if a message goes out now whose receiver would find the attempt unfinished or
        write its own before it: that of a retry, or of the next stage. Otherwise with the end.
        """
        attempt = Attempt(
            number=self.attempt,
            task=self._spec.name,
            worker=self._task.request.hostname,
            started_at=self._started_at,
            ended_at=datetime.now(UTC),
            error=error and AttemptError(type=type(error).__name__, message=str(error)),
            backoff_seconds=backoff,
            requeues=self._requeues,
        )
        request = self._task.request
        if backoff is not None or (error is None and request.chain):
            self._backend.append_attempt(self.id, attempt)
        else:
            self._backend.append_with_state(request, self.id, attempt)

    def end_as_cancelled(self) -> NoReturn:
        """Make `cancelled` the end of the task, and have its message acknowledged."""
        self._backend.mark_as_revoked(self._task_id, "cancelled", request=self._task.request)
        logger.info("%s[%s] was cancelled", self._spec.name, self.id)
        raise Ignore

    def _append_unfinished(self, meta: Meta) -> None:
        before = Running.model_validate(meta.result)
        attempt = Attempt(
            number=before.attempt,
            task=self._spec.name,
            worker=before.worker or "unknown",
            started_at=before.started_at or self._started_at,
            ended_at=self._started_at,
            error=AttemptError(
                type="WorkerLost", message="the worker was lost before the attempt ended"
            ),
            requeues=meta.requeues,
        )
        self._backend.append_attempt(self.id, attempt)

    def _running(self, progress: Progress | None = None) -> Running:
        return Running(
            task=self._spec.name,
            worker=self._task.request.hostname,
            started_at=self._started_at,
            attempt=self.attempt,
            progress=progress,
        )


def implement(
    app: JobApp,
    spec: TaskSpec[A, R],
    function: Callable[[A, Job], R],
    storage: ObjectStore,
) -> None:
    """Register `function` as the implementation of `spec`.

    A result above MAX_RESULT_BYTES goes to `storage` as the job's artifact `result.json`.
    """

    def run(task: "Task[Any, Any]", *earlier: Any, **fields: Any) -> Any:  # noqa: ANN401 - JSON
        job_id = str(task.request.root_id or task.request.id)
        with app.running_jobs.add(job_id) as cancellation:
            job = Job(task, spec, earlier[0] if earlier else None, cancellation)
            job.begin()
            try:
                with _storage_faults_retried():
                    result = function(_validated(spec, fields), job)
                    payload = _bounded(result.model_dump(mode="json"), job, storage)
            except JobCancelledError as exc:
                job.end_attempt(exc)
                job.end_as_cancelled()
            except RetryableError as exc:
                _try_again(task, spec, job, exc)
            except Exception as exc:
                if terminate_handler_fired():
                    # Libraries make errors of their own of the signal that ends this process:
                    # the process ends, the job does not.
                    raise SystemExit from exc
                job.end_attempt(exc)
                raise
            job.end_attempt()
            _publish_next_stage(app, task, payload)
            return payload

    limit = int(spec.deadline.total_seconds())
    app.task(
        name=spec.name,
        bind=True,
        shared=False,  # Celery's default lets a second registration of a name lose silently
        max_retries=None,  # the policy decides, by not retrying
        resultrepr_maxsize=_SHOWN_RESULT_CHARACTERS,
        soft_time_limit=limit,
        time_limit=limit + _HARD_LIMIT_GRACE_SECONDS,
    )(run)


def _try_again(
    task: "Task[Any, Any]", spec: TaskSpec[Any, Any], job: Job, exc: RetryableError
) -> NoReturn:
    """Have the broker deliver the job again after a while, or give up: the policy decides."""
    backoff = _backoff(spec.retry, job.attempt)
    job.end_attempt(exc, backoff)
    if backoff is None:
        raise exc
    logger.warning("%s[%s]: %s; again in %d s", spec.name, job.id, exc, backoff)
    raise _published(task, lambda: task.retry(countdown=backoff, exc=exc, throw=False))


def _publish_next_stage(app: JobApp, task: "Task[Any, Any]", payload: object) -> None:
    """Publish the stage that comes next, if any.

    Celery would do the same, but make a failure of the job of a broker that is away.
    """
    request: Any = task.request
    if not request.chain:
        return
    *later, following = request.chain
    stage = app.signature(following)
    _published(
        task,
        lambda: stage.apply_async(
            (payload,), chain=later, parent_id=request.id, root_id=request.root_id
        ),
    )
    request.chain = None


def _published(task: "Task[Any, Any]", publish: Callable[[], T]) -> T:
    """Publish what follows, as soon as the broker takes it.

    Giving the message back at once would use up its deliveries in a moment; a broker that lacks
    memory, say, takes longer to recover.

    Raises:
        Reject: it does not for PUBLISH_PATIENCE_SECONDS, and the message comes again.

    """
    request: Any = task.request
    give_up = time.monotonic() + PUBLISH_PATIENCE_SECONDS
    while True:
        try:
            return publish()
        except Exception as exc:
            logger.warning("%s[%s] can't publish what follows: %s", task.name, request.id, exc)
            # Not STARTED any more, or the next delivery would take this attempt for a lost one.
            task.backend.mark_as_retry(request.id, exc, request=request)
            if time.monotonic() > give_up:
                raise Reject(exc, requeue=True) from exc
            time.sleep(_PUBLISH_PAUSE_SECONDS)


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
