"""A job as `/v1` shows it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Path, Response
from pydantic import BaseModel, Field, TypeAdapter

from api.store.jobs import JobSnapshot
from contracts.failures import Failure
from contracts.records import Attempt, JobRecord, Progress
from contracts.states import JobState
from contracts.status import JobStatus

POLL_AGAIN_SECONDS = 1

JobId = Annotated[str, Path(min_length=1, max_length=64, description="The job's id.")]


class JobLinks(BaseModel):
    """Where to go from here."""

    self: str
    result: str
    events: str
    artifacts: str


class JobView(BaseModel):
    """A job: what was submitted, where it is, and what came of it."""

    id: str
    task: str
    lane: str
    state: JobState
    submitted_at: datetime
    run_at: datetime | None = Field(None, description="When a scheduled job is due.")
    worker: str | None = Field(None, description="Who runs the job at this moment.")
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = Field(
        None, description="When a cancel was asked for; a running job may end otherwise first."
    )
    expires_at: datetime = Field(description="When everything known of the job is forgotten.")
    progress: Progress | None = None
    next_attempt_at: datetime | None = None
    result: Any = Field(None, description="The task's Result, once the job has succeeded.")
    error: Failure | None = None
    attempts: list[Attempt] = []
    batch: str | None = None
    links: JobLinks


_JSON: Final = TypeAdapter(JobView)


def new_job_view(record: JobRecord) -> JobView:
    """Show a job that was accepted this moment."""
    scheduled = record.run_at is not None and record.run_at > record.submitted_at
    state = JobState.SCHEDULED if scheduled else JobState.QUEUED
    return _view(JobSnapshot(record, JobStatus(state=state), result=None, attempts=[]))


def job_view(snapshot: JobSnapshot) -> JobView:
    """Show a job as Redis knows it."""
    return _view(snapshot)


def job_response(
    view: JobView, status_code: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with a job, and when to ask again if it has not ended.

    Its bytes are written once: what a function returns otherwise, FastAPI validates once more.
    """
    answer = Response(_JSON.dump_json(view), status_code, headers, media_type="application/json")
    if not view.state.is_terminal:
        answer.headers["Retry-After"] = str(POLL_AGAIN_SECONDS)
    return answer


def _view(snapshot: JobSnapshot) -> JobView:
    record, status = snapshot.record, snapshot.status
    base = f"/v1/jobs/{record.id}"
    return JobView(
        id=record.id,
        task=record.task,
        lane=record.lane,
        state=status.state,
        submitted_at=record.submitted_at,
        run_at=record.run_at,
        worker=status.worker,
        started_at=status.started_at,
        finished_at=status.finished_at,
        cancel_requested_at=snapshot.cancel_requested_at,
        expires_at=record.expires_at,
        progress=status.progress,
        next_attempt_at=status.next_attempt_at,
        result=snapshot.result,
        error=status.failure,
        attempts=snapshot.attempts,
        batch=record.batch,
        links=JobLinks(
            self=base,
            result=f"{base}/result",
            events=f"{base}/events",
            artifacts=f"{base}/artifacts",
        ),
    )
