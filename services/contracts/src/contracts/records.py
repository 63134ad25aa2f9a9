"""What services write down of a job, and read: the shapes behind the keys of `contracts.keys`.

Each key has one kind of writer or is written once, so there is nothing to race on. The *record* is
written once, before publishing, by whoever submits. What a task does at the moment (*running*) and
its *attempts* are written by workers. Its *end*, under Celery's own key, is written once and never
changed: by its worker, by the API when the broker gave the job up, or by a cancel that finds
nobody running it. The *cancel mark* and the number of *requeues* are set by the API.
"""

import uuid
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from contracts.states import BEGUN_STATES, ENDS, JobState
from twinlane_sdk.task_spec import Args, TaskSpec

ITEM_JOB: Final = b"+"
"""What is kept of a batch's item that became a job."""
ITEM_REFUSED: Final = b"-"


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


class AttemptError(BaseModel):
    """What ended an attempt."""

    model_config = ConfigDict(frozen=True)

    type: str
    message: str


WORKER_LOST: Final = AttemptError(
    type="WorkerLost", message="the worker was lost before the attempt ended"
)
"""What ended an attempt whose worker was not there any more to say so."""


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


class Meta(BaseModel):
    """What Celery keeps of one task: its state and, depending on it, result, error or progress."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: str
    result: Any = None
    date_done: datetime | None = None
    requeues: int = 0

    @classmethod
    def from_redis(cls, raw: bytes | str | None) -> Self | None:
        """Return a meta as Redis has it; None if there is none."""
        return None if raw is None else cls.model_validate_json(raw)

    @property
    def is_end(self) -> bool:
        """Whether the task has ended."""
        return self.status in ENDS

    @property
    def end_state(self) -> JobState | None:
        """The state that a job comes to whose last task ended so; None if it did not end."""
        return ENDS.get(self.status)

    def lost_attempt(self, task: str, ended_at: datetime) -> Attempt | None:
        """Return the attempt that this meta says is running, as one whose worker was lost.

        None if it says something else: the task waits for its next attempt, or has ended.
        """
        if self.status not in BEGUN_STATES:
            return None
        running = Running.model_validate(self.result or {})
        return Attempt(
            number=running.attempt,
            task=task,
            worker=running.worker or "unknown",
            started_at=running.started_at or ended_at,
            ended_at=ended_at,
            error=WORKER_LOST,
            requeues=self.requeues,
        )


class StageMetas(NamedTuple):
    """What workers say of one stage of a job: how it ended, and before that, what it does."""

    end: Meta | None
    running: Meta | None

    def newest(self, requeues: int) -> Meta | None:
        """Return what counts: the end before the rest, nothing from before the last requeue."""
        return next((meta for meta in self if meta and meta.requeues >= requeues), None)


def batch_of(raw_record: bytes | str | None) -> str | None:
    """Return the batch of a job, from its record as Redis has it."""
    return None if raw_record is None else JobRecord.model_validate_json(raw_record).batch


def batch_job_id(batch_id: str, index: int) -> str:
    """Return the id of the job that an item of a batch becomes, by the item's place in it."""
    return str(uuid.uuid5(uuid.UUID(batch_id), str(index)))


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
