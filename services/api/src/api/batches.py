"""Many jobs submitted together: one request, one id, one combined state."""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.errors import (
    ApiError,
    BatchNotFound,
    BodyTooLarge,
    BrokerUnavailable,
    IdempotencyKeyReused,
    InvalidField,
    InvalidRequest,
    LaneFull,
    MalformedBody,
    ResultsUnavailable,
    malformed_json,
    problem_body,
    responses,
    validation_problem,
)
from api.idempotency import Idempotent, Identity
from api.job_view import POLL_AGAIN_SECONDS
from api.services import Services, Uses
from api.submission import AcceptedBatch, Submission
from api.tasks import MAX_DELAY, find_task, resolve_run_at
from contracts.records import BatchRecord, JobState

T = TypeVar("T")

NDJSON: Final = "application/x-ndjson"
_TURN: Final = 100
"""Items handled before other requests get a turn: about ten milliseconds' worth."""


class BatchItem(BaseModel):
    """One job to submit."""

    model_config = ConfigDict(extra="forbid")

    task: str = Field(examples=["cpu.sum_numbers"])
    args: dict[str, Any] = Field(default={}, examples=[{"a": 2, "b": 3}])
    delay: float | None = Field(
        None, ge=0, le=MAX_DELAY.total_seconds(), description="Seconds until the job starts."
    )


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
    items: list[ItemOutcome]


class BatchJob(BaseModel):
    """A job of the batch."""

    id: str
    task: str
    state: JobState


class BatchView(BaseModel):
    """The combined state of a batch, derived from its jobs."""

    id: str
    state: JobState = Field(description="succeeded only if every job did; failed if any did.")
    total: int
    counts: dict[JobState, int]
    submitted_at: datetime
    finished_at: datetime | None
    expires_at: datetime
    jobs: list[BatchJob]


def create_router() -> APIRouter:
    """Return the routes below /v1/batches."""
    router = APIRouter(prefix="/v1/batches", tags=["batches"])
    item = BatchItem.model_json_schema()
    router.add_api_route(
        "",
        create_batch,
        methods=["POST"],
        status_code=202,
        summary="Submit many jobs",
        response_model=BatchAccepted,
        response_model_exclude_none=True,
        responses=responses(
            MalformedBody,
            BodyTooLarge,
            InvalidRequest,
            IdempotencyKeyReused,
            BrokerUnavailable,
            LaneFull,
            ResultsUnavailable,
        ),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"type": "array", "items": item}},
                    NDJSON: {"schema": {"type": "string", "description": "An item a line."}},
                },
            }
        },
    )
    router.add_api_route(
        "/{batch_id}/cancel",
        cancel_batch,
        methods=["POST"],
        status_code=202,
        summary="Cancel all jobs of a batch",
        response_model=BatchView,
        responses=responses(BatchNotFound, ResultsUnavailable),
    )
    router.add_api_route(
        "/{batch_id}",
        show_batch,
        methods=["GET"],
        summary="Show a batch",
        response_model=BatchView,
        responses=responses(BatchNotFound, ResultsUnavailable),
    )
    return router


async def create_batch(
    services: Uses, request: Request, response: Response, idempotency: Idempotent
) -> BatchAccepted:
    """Submit a JSON array of items, or NDJSON with an item a line.

    Items that break a rule are refused one by one; if every item does, so is the batch.
    """
    body = await request.body()
    items = _parse(body, request.headers.get("Content-Type", ""))
    _check_size(items, services.settings.max_batch_items)
    outcomes = [await _admit(services, item) async for item in _in_turns(items)]
    if all(isinstance(outcome, ApiError) for outcome in outcomes):
        raise _nothing_valid(outcomes)
    batch, refusals, replayed = await submit_batch(
        services,
        [outcome for outcome in outcomes if isinstance(outcome, Submission)],
        idempotency.identity(body),
    )
    idempotency.tell(replayed=replayed)
    response.headers["Location"] = f"/v1/batches/{batch.id}"
    response.headers["Retry-After"] = str(POLL_AGAIN_SECONDS)
    submitted = iter(zip(batch.jobs, refusals, strict=True))
    answers = [
        _outcome(index, None, outcome)
        if isinstance(outcome, ApiError)
        else _outcome(index, *next(submitted))
        for index, outcome in enumerate(outcomes)
    ]
    refused = sum(answer.problem is not None for answer in answers)
    return BatchAccepted(
        id=batch.id,
        accepted=len(answers) - refused,
        refused=refused,
        expires_at=batch.expires_at,
        items=answers,
    )


async def submit_batch(
    services: Services, submissions: Sequence[Submission], identity: Identity | None = None
) -> AcceptedBatch:
    """Submit jobs under one batch id.

    Raises:
        ApiError: the first reason, when no job at all was accepted.

    """
    batch_id = identity.id if identity else str(uuid.uuid4())
    numbered = list(enumerate(submissions))
    records = [
        services.submitter.record(submission, _job_id(batch_id, number), batch_id)
        async for number, submission in _in_turns(numbered)
    ]
    batch = BatchRecord(
        id=batch_id,
        jobs=[record.id for record in records],
        submitted_at=records[0].submitted_at,
        expires_at=max(record.expires_at for record in records),
        fingerprint=identity.fingerprint if identity else None,
    )
    accepted = await services.submitter.submit_batch(batch, records, identity)
    first = accepted.refusals[0]
    if first is not None and all(accepted.refusals):
        raise first
    return accepted


BatchId = Annotated[str, Path(min_length=1, max_length=64, description="The batch's id.")]


async def cancel_batch(services: Uses, response: Response, batch_id: BatchId) -> BatchView:
    """Cancel every job that has not ended, as `POST /v1/jobs/{id}/cancel` does."""
    batch = await services.store.batch(batch_id)
    await services.canceller.cancel(batch.jobs)
    return await show_batch(services, response, batch_id)


async def show_batch(services: Uses, response: Response, batch_id: BatchId) -> BatchView:
    """Return the states of all jobs of a batch and the state of the whole."""
    batch = await services.store.batch(batch_id)
    jobs = []
    finished: list[datetime] = []
    async for snapshot in services.store.snapshots(batch.jobs):
        status = snapshot.status
        jobs.append(BatchJob(id=snapshot.record.id, task=snapshot.record.task, state=status.state))
        if status.finished_at:
            finished.append(status.finished_at)
    counts = Counter(job.state for job in jobs)
    state = combined_state(counts)
    if not state.is_terminal:
        response.headers["Retry-After"] = str(POLL_AGAIN_SECONDS)
    return BatchView(
        id=batch.id,
        state=state,
        total=len(jobs),
        counts=counts,
        submitted_at=batch.submitted_at,
        finished_at=max(finished, default=None) if state.is_terminal else None,
        expires_at=batch.expires_at,
        jobs=jobs,
    )


def combined_state(counts: Mapping[JobState, int]) -> JobState:
    """Return the state of a whole from how many of its jobs are in each."""
    present = {state for state, count in counts.items() if count}
    if all(state.is_terminal for state in present):
        return next(
            (s for s in (JobState.FAILED, JobState.CANCELLED) if s in present), JobState.SUCCEEDED
        )
    order = (JobState.RUNNING, JobState.RETRYING, JobState.QUEUED, JobState.SCHEDULED)
    state = next(state for state in order if state in present)
    begun = any(state.is_terminal for state in present)
    return JobState.RUNNING if begun else state


async def _in_turns(items: Sequence[T]) -> AsyncIterator[T]:
    """Yield the items, letting other requests have their turn in between."""
    for index, item in enumerate(items):
        if index % _TURN == 0:
            await asyncio.sleep(0)
        yield item


def _job_id(batch_id: str, number: int) -> str:
    """Return the id of a batch's job: the same when the batch is submitted again with its key."""
    return str(uuid.uuid5(uuid.UUID(batch_id), str(number)))


def _parse(body: bytes, content_type: str) -> list[object]:
    """Return the raw items: of NDJSON, a line that is no JSON stands as its ApiError."""
    try:
        text = body.decode()
    except UnicodeDecodeError as exc:
        raise MalformedBody(f"The body is not UTF-8: {exc}.") from exc
    if "ndjson" in content_type or "jsonl" in content_type:
        return [_parse_line(line) for line in text.splitlines() if line.strip()]
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as exc:
        problem = malformed_json(exc)
        raise MalformedBody(f"{problem.detail} For NDJSON send {NDJSON!r}.") from exc
    if not isinstance(items, list):
        rule = "must be an array of items"
        raise InvalidRequest([InvalidField(field="body", value=type(items).__name__, rule=rule)])
    return items


def _parse_line(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as exc:
        return malformed_json(exc)


def _check_size(items: Sequence[object], limit: int) -> None:
    if not 1 <= len(items) <= limit:
        rule = f"must have 1 to {limit:,} items (MAX_BATCH_ITEMS)"
        raise InvalidRequest([InvalidField(field="body", value=f"{len(items):,} items", rule=rule)])


async def _admit(services: Services, raw: object) -> Submission | ApiError:
    if isinstance(raw, ApiError):
        return raw
    try:
        item = BatchItem.model_validate(raw)
        spec = find_task(item.task)
        args = await services.admission.validate(spec, item.args)
    except ValidationError as exc:
        return validation_problem(exc, within="item")
    except ApiError as exc:
        return exc
    return Submission(spec, args, resolve_run_at(None, item.delay))


def _nothing_valid(outcomes: Sequence[object]) -> InvalidRequest:
    problems = [outcome for outcome in outcomes if isinstance(outcome, ApiError)]
    return InvalidRequest(
        [
            InvalidField(field=f"items.{index}", rule=f"{problem.code}: {problem.detail}")
            for index, problem in enumerate(problems[:20])
        ]
    )


def _outcome(index: int, job_id: str | None, refusal: ApiError | None) -> ItemOutcome:
    return ItemOutcome(index=index, id=job_id, problem=problem_body(refusal) if refusal else None)
