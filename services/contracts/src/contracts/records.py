"""What is known of a job: the keys, the fields, and the one function that derives its state.

Each key has one kind of writer or is written once, so there is nothing to race on. The *record* is
written once, before publishing, by whoever submits. What a task does at the moment (*running*) and
its *attempts* are written by workers. Its *end*, under Celery's own key, is written once and never
changed: by its worker, by the undertaker when the broker gave the job up, or by a cancel that finds
nobody running it. The *cancel mark* and the number of *requeues* are set by the API.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from contracts.schemas import Args
from contracts.tasks import TaskSpec

UNCONFIRMED_PREFIX: Final = "twinlane:unconfirmed:"

META_PREFIX: Final = "celery-task-meta-"
"""Celery's own prefix; a state change is published on a channel of the key's name."""

STARTED_STATE: Final = "STARTED"
PROGRESS_STATE: Final = "PROCESSING"
"""Celery state of a running task that has reported progress."""
RETRY_STATE: Final = "RETRY"
SUCCESS_STATE: Final = "SUCCESS"
FAILURE_STATE: Final = "FAILURE"
REVOKED_STATE: Final = "REVOKED"

REQUEUES_HEADER: Final = "requeues"
"""Message header: how often the job had been taken out of the dead letters when it was sent."""

BATCH_HEADER: Final = "batch"
"""Message header: the batch that the job belongs to, which wants to hear of its end."""


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

    @property
    def has_begun(self) -> bool:
        """Return whether a worker has begun the job, or it has ended without one."""
        return self not in _NOT_BEGUN


_TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
_NOT_BEGUN = frozenset({JobState.SCHEDULED, JobState.QUEUED})


_ENDS: Final = {
    SUCCESS_STATE: JobState.SUCCEEDED,
    FAILURE_STATE: JobState.FAILED,
    REVOKED_STATE: JobState.CANCELLED,
}


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
    fingerprint: str | None = None
    """What an Idempotency-Key was first used for; None without such a key."""


class Reception(StrEnum):
    """Whether the items of a batch have all come in."""

    RECEIVING = "receiving"
    COMPLETE = "complete"
    BROKEN_OFF = "broken_off"


class BatchRecord(BaseModel):
    """What was submitted together. The states of its jobs are read from the jobs.

    Written before the first job, when nobody knows yet how many there will be, and once more when
    the last item has come in. Which of its items became jobs is kept beside it, see `items_key`.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    submitted_at: datetime
    expires_at: datetime
    fingerprint: str | None = None
    reception: Reception = Reception.COMPLETE
    jobs: list[str] = []
    """Ids, in a record that the first version wrote: it had no `items_key`."""


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
    requeues: int = 0
    """How often the job had been taken out of the dead letters before."""

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

    task: str | None = None
    worker: str | None = None
    started_at: datetime | None = None
    attempt: int = 1
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
    running: Running | None = None
    """The attempt that runs now; `started_at` is that of the first."""
    finished_at: datetime | None = None


class Meta(BaseModel):
    """What Celery keeps of one task: its state and, depending on it, result, error or progress."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: str
    result: Any = None
    date_done: datetime | None = None
    requeues: int = 0

    @property
    def is_end(self) -> bool:
        """Say whether the task has ended."""
        return self.status in _ENDS

    @property
    def end_state(self) -> JobState | None:
        """The state that a job comes to whose last task ended so; None if it did not end."""
        return _ENDS.get(self.status)


class TaskMetas(NamedTuple):
    """What workers say of one task: how it ended, and before that, what it does."""

    end: Meta | None
    running: Meta | None

    def newest(self, requeues: int) -> Meta | None:
        """Return what counts: nothing from before the job's last requeue, and an end first."""
        metas = [meta for meta in self if meta and meta.requeues >= requeues]
        # Workers of the first version said under the key of the end what they were doing.
        return next((meta for meta in metas if meta.is_end), metas[-1] if metas else None)


def record_key(job_id: str) -> str:
    """Return the key of a job's record: a JSON string."""
    return f"twinlane:job:{job_id}"


def attempts_key(job_id: str) -> str:
    """Return the key of a job's attempts: a list of JSON strings."""
    return f"twinlane:attempts:{job_id}"


def batch_key(batch_id: str) -> str:
    """Return the key of a batch's record: a JSON string."""
    return f"twinlane:batch:{batch_id}"


def items_key(batch_id: str) -> str:
    """Return the key of what became of a batch's items: a byte for each, ITEM_JOB or another."""
    return f"twinlane:batch-items:{batch_id}"


ITEM_JOB: Final = b"+"
ITEM_REFUSED: Final = b"-"


def reopens_key(batch_id: str) -> str:
    """Return the key of how often a job of a batch was reopened after its end: a number."""
    return f"twinlane:batch-reopens:{batch_id}"


def ends_channel(batch_id: str) -> str:
    """Return the channel where the ids of a batch's jobs are announced that have ended."""
    return f"twinlane:batch-ends:{batch_id}"


def batch_job_id(batch_id: str, index: int) -> str:
    """Return the id of the job that an item of a batch becomes, by the item's place in it."""
    return str(uuid.uuid5(uuid.UUID(batch_id), str(index)))


def meta_key(task_id: str) -> str:
    """Return the key where Celery keeps how a task ended: a JSON string, written once.

    It is also the name of the channel where every change of the task is announced.
    """
    return META_PREFIX + task_id


def running_key(task_id: str) -> str:
    """Return the key of what a task does that has not ended: a JSON string."""
    return f"twinlane:running:{task_id}"


def redeliveries_key(task_id: str, requeues: int, attempt: int) -> str:
    """Return the key of how often an attempt was begun again: a number."""
    return f"twinlane:redeliveries:{task_id}:{requeues}:{attempt}"


def cancel_key(job_id: str) -> str:
    """Return the key of the mark that nobody wants a job any more: when that was said."""
    return f"twinlane:cancel:{job_id}"


def requeues_key(job_id: str) -> str:
    """Return the key of how often a job was taken out of the dead letters: a number."""
    return f"twinlane:requeues:{job_id}"


def confirmed_key(job_id: str) -> str:
    """Return the key of the mark that the broker has a job with an Idempotency-Key, or a batch."""
    return f"twinlane:confirmed:{job_id}"


def unconfirmed_key(job_id: str) -> str:
    """Return the key of the mark that a job may or may not have reached the broker."""
    return f"{UNCONFIRMED_PREFIX}{job_id}"


def stage_ids(spec: TaskSpec[Any, Any], job_id: str) -> list[str]:
    """Return the ids of a job's tasks: the last carries the job's, the others ones made of it."""
    return [*(f"{job_id}.{number}" for number in range(1, len(spec.stages))), job_id]


def new_record(  # noqa: PLR0913 - a record has these facts
    spec: TaskSpec[Any, Any],
    args: Args,
    *,
    job_id: str,
    ttl_seconds: int,
    run_at: datetime | None = None,
    batch: str | None = None,
    fingerprint: str | None = None,
) -> JobRecord:
    """Describe a job that is submitted now; its lifetime counts from when it is due."""
    now = datetime.now(UTC)
    stages = [
        Stage(id=task_id, task=stage.name)
        for task_id, stage in zip(stage_ids(spec, job_id), spec.stages, strict=True)
    ]
    return JobRecord(
        id=job_id,
        task=spec.name,
        lane=spec.lane,
        args=args.model_dump(mode="json"),
        stages=stages,
        submitted_at=now,
        run_at=run_at,
        expires_at=max(now, run_at or now) + timedelta(seconds=ttl_seconds),
        batch=batch,
        fingerprint=fingerprint,
    )


def derive_status(
    record: JobRecord,
    tasks: Sequence[TaskMetas],
    attempts: Sequence[Attempt],
    now: datetime,
    *,
    requeues: int = 0,
) -> JobStatus:
    """Derive a job's one state from its record, its stages' metas (in order) and its attempts.

    `requeues` is how often the job was taken out of the dead letters: what was before is past.
    """
    metas = [task.newest(requeues) for task in tasks]
    started_at = attempts[0].started_at if attempts else None
    if end := _end(metas):
        return JobStatus(
            state=_ENDS[end.status],
            failure=_failure(end.result) if end.status == FAILURE_STATE else None,
            started_at=started_at,
            finished_at=end.date_done,
        )
    current = next((meta for meta in reversed(metas) if meta), None)
    if current is None:
        return JobStatus(state=_waiting(record, now), started_at=started_at)
    if current.status == RETRY_STATE:
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
        running=running,
    )


def _end(metas: Sequence[Meta | None]) -> Meta | None:
    """Return how the job ended: as its last stage did, or at an earlier one."""
    *earlier, last = metas
    if last and last.is_end:
        return last
    early_ends = {FAILURE_STATE, REVOKED_STATE}
    return next((meta for meta in earlier if meta and meta.status in early_ends), None)


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
    "NeverFinishedError": ("never-finished", "No run of the job came to an end", True),
    "DeadLettered": ("dead-lettered", "The broker gave the job up", True),
    "Unconfirmed": ("never-queued", "The broker never took the job", True),
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
        dead_lettered=error_type not in {"TimeLimitExceeded", "Unconfirmed"},
    )
