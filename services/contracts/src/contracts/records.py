"""What is known of a job: the keys, the fields, and the one function that derives its state.

Each key has one writer, so there is nothing to race on. The *record* is written once, before
publishing, by whoever submits; Celery's *meta* only by workers; *attempts* are appended by workers.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from contracts.schemas import Args
from contracts.tasks import TaskSpec

META_PREFIX: Final = "celery-task-meta-"
"""Celery's own prefix; a state change is published on a channel of the key's name."""

STARTED_STATE: Final = "STARTED"
PROGRESS_STATE: Final = "PROCESSING"
"""Celery state of a running task that has reported progress."""


class JobState(StrEnum):
    """Where a job is: scheduled → queued → running ⇄ retrying → one of the terminal three."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Say whether the state is final."""
        return self in _TERMINAL


_TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Stage(BaseModel):
    """One Celery task of a job; the last one carries the job's id."""

    model_config = ConfigDict(frozen=True)

    id: str
    task: str


class JobRecord(BaseModel):
    """What was submitted. Written once, before the job is published."""

    model_config = ConfigDict(frozen=True)

    id: str
    task: str
    lane: str
    args: dict[str, Any]
    stages: list[Stage]
    submitted_at: datetime
    run_at: datetime | None = None
    expires_at: datetime
    batch: str | None = None


class BatchRecord(BaseModel):
    """The jobs that were submitted together. Their states are read from the jobs."""

    model_config = ConfigDict(frozen=True)

    id: str
    jobs: list[str]
    submitted_at: datetime
    expires_at: datetime


class AttemptError(BaseModel):
    """What ended an attempt."""

    model_config = ConfigDict(frozen=True)

    type: str
    message: str


class Attempt(BaseModel):
    """One run of one of the job's tasks, appended when it ends."""

    model_config = ConfigDict(frozen=True)

    number: int
    task: str
    worker: str
    started_at: datetime
    ended_at: datetime
    error: AttemptError | None = None
    backoff_seconds: int | None = None

    @property
    def next_attempt_at(self) -> datetime | None:
        """When the next attempt is due, if this one ended in a retry."""
        if self.backoff_seconds is None:
            return None
        return self.ended_at + timedelta(seconds=self.backoff_seconds)


class Progress(BaseModel):
    """How far a running task is, in real units."""

    model_config = ConfigDict(frozen=True)

    current: int
    total: int | None
    unit: str
    percent: float | None
    message: str | None = None


class Running(BaseModel):
    """What a worker keeps as the meta of a task that it runs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    worker: str | None = None
    started_at: datetime | None = None
    progress: Progress | None = None


class Failure(BaseModel):
    """Why a job failed, as a problem object."""

    model_config = ConfigDict(frozen=True)

    code: str
    title: str
    detail: str
    error_type: str
    retryable: bool
    dead_lettered: bool


class JobStatus(BaseModel):
    """A job's state with what belongs to it."""

    model_config = ConfigDict(frozen=True)

    state: JobState
    progress: Progress | None = None
    failure: Failure | None = None
    next_attempt_at: datetime | None = None
    worker: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Meta(BaseModel):
    """What Celery keeps of one task: its state and, depending on it, result, error or progress."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: str
    result: Any = None
    date_done: datetime | None = None


def record_key(job_id: str) -> str:
    """Return the key of a job's record: a JSON string."""
    return f"twinlane:job:{job_id}"


def attempts_key(job_id: str) -> str:
    """Return the key of a job's attempts: a list of JSON strings."""
    return f"twinlane:attempts:{job_id}"


def batch_key(batch_id: str) -> str:
    """Return the key of a batch's record: a JSON string."""
    return f"twinlane:batch:{batch_id}"


def meta_key(task_id: str) -> str:
    """Return the key where Celery keeps a task's meta: a JSON string."""
    return META_PREFIX + task_id


def new_record(  # noqa: PLR0913 - a record has these facts
    spec: TaskSpec[Any, Any],
    args: Args,
    *,
    job_id: str,
    ttl_seconds: int,
    run_at: datetime | None = None,
    batch: str | None = None,
) -> JobRecord:
    """Describe a job that is submitted now; its lifetime counts from when it is due.

    The last stage carries the job's id, earlier ones get ids derived from it.
    """
    now = datetime.now(UTC)
    *earlier, last = spec.stages
    stages = [
        Stage(id=f"{job_id}.{number}", task=stage.name) for number, stage in enumerate(earlier, 1)
    ]
    return JobRecord(
        id=job_id,
        task=spec.name,
        lane=spec.lane,
        args=args.model_dump(mode="json"),
        stages=[*stages, Stage(id=job_id, task=last.name)],
        submitted_at=now,
        run_at=run_at,
        expires_at=max(now, run_at or now) + timedelta(seconds=ttl_seconds),
        batch=batch,
    )


def derive_status(
    record: JobRecord,
    metas: Sequence[Meta | None],
    attempts: Sequence[Attempt],
    now: datetime,
) -> JobStatus:
    """Derive a job's one state from its record, its stages' metas (in order) and its attempts."""
    started_at = attempts[0].started_at if attempts else None
    failed = next((meta for meta in metas if meta and meta.status == "FAILURE"), None)
    if failed:
        return JobStatus(
            state=JobState.FAILED,
            failure=_failure(failed.result),
            started_at=started_at,
            finished_at=failed.date_done,
        )
    if any(meta and meta.status == "REVOKED" for meta in metas):
        return JobStatus(state=JobState.CANCELLED, started_at=started_at)
    last = metas[-1]
    if last and last.status == "SUCCESS":
        return JobStatus(
            state=JobState.SUCCEEDED, started_at=started_at, finished_at=last.date_done
        )
    current = next((meta for meta in reversed(metas) if meta), None)
    if current is None:
        return JobStatus(state=_waiting(record, now))
    if current.status == "RETRY":
        return JobStatus(
            state=JobState.RETRYING,
            started_at=started_at,
            next_attempt_at=attempts[-1].next_attempt_at if attempts else None,
        )
    running = Running.model_validate(current.result or {})
    return JobStatus(
        state=JobState.RUNNING,
        progress=running.progress,
        worker=running.worker,
        started_at=started_at or running.started_at,
    )


def _waiting(record: JobRecord, now: datetime) -> JobState:
    if record.run_at is not None and record.run_at > now:
        return JobState.SCHEDULED
    return JobState.QUEUED


_FAILURES: Final[Mapping[str, tuple[str, str, bool]]] = {
    # error type: code, title, whether submitting the same again may work
    "RejectedError": ("job-rejected", "The job can't be done with this input", False),
    "RetryableError": ("attempts-exhausted", "Every attempt failed", True),
    "DeadlineExceededError": ("deadline-exceeded", "The job took longer than it may", True),
    "SoftTimeLimitExceeded": ("deadline-exceeded", "The job took longer than it may", True),
    "TimeLimitExceeded": ("deadline-exceeded", "The job took longer than it may", True),
    "WorkerLostError": ("worker-lost", "The worker died while it ran the job", True),
    "NotRegistered": ("task-unknown", "No worker knows this task", True),
}


def _failure(result: Any) -> Failure:  # noqa: ANN401 - whatever Celery stored
    error = result if isinstance(result, dict) else {}
    error_type = str(error.get("exc_type", "Exception"))
    message = error.get("exc_message", "")
    detail = " ".join(map(str, message)) if isinstance(message, list) else str(message)
    timed_out = error_type == "TimeLimitExceeded"
    if timed_out:  # its only argument is the limit
        detail = f"It was stopped after {detail} seconds."
    code, title, retryable = _FAILURES.get(
        error_type, ("internal-error", "The task failed unexpectedly", False)
    )
    return Failure(
        code=code,
        title=title,
        detail=detail or title,
        error_type=error_type,
        retryable=retryable,
        # A final failure is rejected into the dead-letter exchange, but see task_acks_on_timeout.
        dead_lettered=not timed_out,
    )
