"""A batch as `/v1` shows it: when it is submitted, and from then on.

Its jobs are written as JSON one by one: thousands of models would take too long.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from fastapi import Response
from pydantic import BaseModel, Field, TypeAdapter

from api.batches.intake import SubmittedBatch
from api.batches.states import BatchStatus
from api.concurrency import yielding
from api.errors.rendering import problem_body
from api.errors.types import ApiError, OutcomeUnknown
from api.web.job_view import POLL_AGAIN_SECONDS
from contracts.records import Reception, batch_job_id
from contracts.states import JobState


class ItemOutcome(BaseModel):
    """The id of the job that an item became, or why it became none."""

    index: int
    id: str | None = None
    problem: dict[str, Any] | None = None


class BatchAccepted(BaseModel):
    """What became of each item."""

    id: str
    accepted: int
    refused: int
    expires_at: datetime
    state: JobState | None = Field(None, description="With `Prefer: wait`: as of the answer.")
    counts: dict[JobState, int] | None = Field(None, description="With `Prefer: wait`.")
    finished_at: datetime | None = Field(None, description="With `Prefer: wait`, when all ended.")
    items: list[ItemOutcome]


class BatchJobView(BaseModel):
    """A job of the batch."""

    id: str
    task: str
    state: JobState


class BatchView(BaseModel):
    """The combined state of a batch, derived from its jobs."""

    id: str
    state: JobState = Field(description="succeeded only if every job did; failed if any did.")
    reception: Reception = Field(
        description="receiving: more jobs may come. broken_off: its body never came to its end, "
        "and what had been queued was cancelled."
    )
    total: int
    counts: dict[JobState, int]
    submitted_at: datetime
    finished_at: datetime | None
    expires_at: datetime
    jobs: list[BatchJobView] | None = Field(None, description="Left out with `?jobs=false`.")


_ACCEPTED: Final = TypeAdapter(BatchAccepted)
_PROBLEM: Final = TypeAdapter(dict[str, Any])
_VIEW: Final = TypeAdapter(BatchView)


async def accepted_response(
    batch: SubmittedBatch, status: BatchStatus | None, headers: Mapping[str, str]
) -> Response:
    """Answer with what became of each item, and with the batch's state when that was waited for."""
    record = batch.record
    view = BatchAccepted(
        id=record.id,
        accepted=batch.accepted,
        refused=len(batch.refusals),
        expires_at=record.expires_at,
        state=status.state if status else None,
        counts=dict(status.counts) if status else None,
        finished_at=status.finished_at if status else None,
        items=[],
    )
    content = _ACCEPTED.dump_json(view, exclude_none=True, exclude={"items"})
    outcomes = [
        _outcome(record.id, index, batch.refusals.get(index))
        async for index in yielding(range(batch.total))
    ]
    has_ended = status is not None and status.state.is_terminal
    content = _with_list(content, "items", outcomes)
    return _response(content, 200 if has_ended else 202, headers, has_ended=has_ended)


async def batch_response(status: BatchStatus, status_code: int, *, list_jobs: bool) -> Response:
    """Answer with the state of a batch, and with those of its jobs if they are to be listed."""
    record = status.record
    view = BatchView(
        id=record.id,
        state=status.state,
        reception=status.intake,
        total=len(status.jobs),
        counts=dict(status.counts),
        submitted_at=record.submitted_at,
        finished_at=status.finished_at,
        expires_at=record.expires_at,
    )
    content = _VIEW.dump_json(view, exclude={"jobs"})
    if list_jobs:
        jobs = [
            f'{{"id":"{job.id}","task":"{job.task}","state":"{job.state}"}}'.encode()
            async for job in yielding(status.jobs)
        ]
        content = _with_list(content, "jobs", jobs)
    return _response(content, status_code, {}, has_ended=status.state.is_terminal)


def _response(
    content: bytes, status_code: int, headers: Mapping[str, str], *, has_ended: bool
) -> Response:
    again = {} if has_ended else {"Retry-After": str(POLL_AGAIN_SECONDS)}
    return Response(content, status_code, {**headers, **again}, media_type="application/json")


def _outcome(batch_id: str, index: int, refusal: ApiError | None) -> bytes:
    members = [b'"index":%d' % index]
    if refusal is None or isinstance(refusal, OutcomeUnknown):
        members.append(b'"id":"%s"' % batch_job_id(batch_id, index).encode())
    if refusal is not None:
        members.append(b'"problem":%s' % _PROBLEM.dump_json(problem_body(refusal)))
    return b"{%s}" % b",".join(members)


def _with_list(document: bytes, name: str, elements: list[bytes]) -> bytes:
    """Return a JSON object with one more member, a list whose elements are JSON already."""
    return b'%s,"%s":[%s]}' % (document.removesuffix(b"}"), name.encode(), b",".join(elements))
