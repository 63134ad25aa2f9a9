"""One attempt of a job, as the worker that runs it keeps it: progress, history, cancel."""

import logging
import time
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, TypeVar, cast

from celery import Task
from celery.exceptions import Ignore

from contracts.records import Attempt, AttemptError, Meta, Progress, Running
from contracts.topology import DELIVERY_LIMIT
from twinlane_sdk.task_spec import Result, TaskSpec
from worker_runtime.cancellation import JobCancellation
from worker_runtime.result_backend import ResultBackend, requeues_of

R = TypeVar("R", bound=Result)

_PROGRESS_INTERVAL_SECONDS: Final = 0.25

logger = logging.getLogger(__name__)


class NeverFinishedError(Exception):
    """The job was delivered again and again, and no run of it came to an end. Not retried."""


class RunningJob:
    """The `twinlane_sdk.job.Job` that a task's function gets, and what the executor does with it.

    `earlier` is what the stage before left behind, as JSON.
    """

    def __init__(
        self,
        task: "Task[Any, Any]",
        spec: TaskSpec[Any, Any],
        earlier: Any,  # noqa: ANN401 - JSON
        cancellation: JobCancellation,
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
        attempt = meta.lost_attempt(self._spec.name, ended_at=self._started_at)
        if attempt:
            self._backend.append_attempt(self.id, attempt)

    def _running(self, progress: Progress | None = None) -> Running:
        return Running(
            task=self._spec.name,
            worker=self._task.request.hostname,
            started_at=self._started_at,
            attempt=self.attempt,
            progress=progress,
        )
