"""The one function that derives a job's state from what is known of it."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from contracts.failures import Failure, describe_failure
from contracts.records import Attempt, JobRecord, Meta, Progress, Running, StageMetas
from contracts.states import ENDS, FAILURE_STATE, RETRY_STATE, REVOKED_STATE, JobState


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


def derive_status(
    record: JobRecord,
    stages: Sequence[StageMetas],
    attempts: Sequence[Attempt],
    now: datetime,
    *,
    requeues: int = 0,
) -> JobStatus:
    """Derive a job's one state from its record, its stages' metas (in order) and its attempts.

    `requeues` is how often the job was taken out of the dead letters: what was before is past.
    """
    metas = [stage.newest(requeues) for stage in stages]
    started_at = attempts[0].started_at if attempts else None
    if end := _end(metas):
        return JobStatus(
            state=ENDS[end.status],
            failure=describe_failure(end.result) if end.status == FAILURE_STATE else None,
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
