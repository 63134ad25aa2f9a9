"""Many jobs submitted together: one request, one id, one combined state."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect

from api.batches.items import NDJSON, read_items
from api.batches.states import BatchStatus
from api.batches.store import BODY_SECONDS
from api.batches.submission import Item, SubmittedBatch
from api.components import Services, Uses
from api.concurrency import yielding
from api.errors.openapi import responses
from api.errors.rendering import problem_body, validation_problem
from api.errors.types import (
    ApiError,
    BatchNotFound,
    BodyTooLarge,
    BodyTooSlow,
    BrokerUnavailable,
    IdempotencyKeyReused,
    InvalidField,
    InvalidRequest,
    LaneFull,
    MalformedBody,
    OutcomeUnknown,
    ResultsUnavailable,
)
from api.jobs.admission import MAX_DELAY, find_task, resolve_run_at
from api.jobs.submission import Submission
from api.web.idempotency import Idempotent
from api.web.job_view import POLL_AGAIN_SECONDS
from api.web.parameters import MAX_WAIT_SECONDS, preferred_wait_seconds
from contracts.records import JobState, Reception, batch_job_id

_ERRORS_SHOWN: Final = 5
"""Broken rules that are told of each item: of ten thousand, all would be too much."""
_SLICE: Final = 64 * 1024


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
        responses=responses(
            MalformedBody,
            BodyTooLarge,
            BodyTooSlow,
            InvalidRequest,
            IdempotencyKeyReused,
            BrokerUnavailable,
            LaneFull,
            OutcomeUnknown,
            ResultsUnavailable,
        )
        | {200: {"model": BatchAccepted, "description": "All ended within `Prefer: wait=N`."}},
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


# --- submitting ---


async def create_batch(
    services: Uses,
    request: Request,
    response: Response,
    idempotency: Idempotent,
    prefer: Annotated[
        str | None, Header(description="`wait=N`: wait up to N ≤ 60 s for all jobs (RFC 7240)")
    ] = None,
) -> Response:
    """Submit a JSON array of items, or NDJSON with an item a line, while it comes in.

    Items that break a rule are refused one by one; if every item does, so is the batch. If the body
    can't be read to its end, nothing is left to run but what had begun: jobs of earlier items are
    cancelled, and the problem names the `batch` and how many were `accepted`. With an
    `Idempotency-Key` nothing is begun before the whole body has been read.
    """
    limit = services.settings.max_batch_items
    content_type = request.headers.get("Content-Type", "")
    _check_length(request, services.settings.max_body_bytes)
    body, identity = _pieces(request), None
    if "Idempotency-Key" in request.headers:
        whole = b"".join([piece async for piece in body])
        async for _ in _counted(read_items(_slices(whole), content_type), limit):
            pass  # what it has to say of the body, it says before anything is queued
        body, identity = _slices(whole), idempotency.identity(whole)
    items = _admitted(services, _counted(read_items(body, content_type), limit))
    batch = await services.batch_submitter.submit(items, identity)
    idempotency.tell(replayed=batch.replayed)
    wait_seconds = preferred_wait_seconds(prefer)
    status = await _waited(services, batch.record.id, wait_seconds) if wait_seconds else None
    headers = dict(response.headers) | {"Location": f"/v1/batches/{batch.record.id}"}
    if status:
        headers["Preference-Applied"] = f"wait={wait_seconds}"
    has_ended = status is not None and status.state.is_terminal
    if not has_ended:
        headers["Retry-After"] = str(POLL_AGAIN_SECONDS)
    content = await _accepted(batch, status)
    return Response(content, 200 if has_ended else 202, headers, media_type="application/json")


async def _waited(services: Services, batch_id: str, seconds: float) -> BatchStatus | None:
    """Return the batch when all of its jobs have ended; None if nobody can say whether they have.

    It was accepted, whatever else can't be read just now.
    """
    try:
        return await services.batch_waits.wait(batch_id, seconds)
    except ResultsUnavailable:
        return None


def _check_length(request: Request, limit: int) -> None:
    """Refuse a body that says itself that it is too large, before any of it is published."""
    length = request.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > limit:
        raise BodyTooLarge(limit, "MAX_BODY_BYTES")


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes in.

    Raises:
        MalformedBody: the client went away.
        BodyTooSlow: it took too long.

    """
    stream = request.stream()
    deadline = asyncio.get_running_loop().time() + BODY_SECONDS
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as exc:
            raise BodyTooSlow(BODY_SECONDS) from exc
        except ClientDisconnect as exc:
            raise MalformedBody("The connection was closed before the body's end.") from exc
        yield piece


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _SLICE):
        yield body[start : start + _SLICE]


async def _counted(items: AsyncIterator[object], limit: int) -> AsyncIterator[object]:
    """Yield the items if there are as many as there may be.

    Raises:
        InvalidRequest: there are more, or none.

    """
    count = 0
    async for item in items:
        count += 1
        if count > limit:
            raise _wrong_size(count, f"1 to {limit:,} items (MAX_BATCH_ITEMS); no more were read")
        yield item
    if count == 0:
        raise _wrong_size(count, f"1 to {limit:,} items (MAX_BATCH_ITEMS)")


def _wrong_size(count: int, bounds: str) -> InvalidRequest:
    value = f"{count:,} items"
    return InvalidRequest([InvalidField(field="body", value=value, rule=f"must have {bounds}")])


async def _admitted(services: Services, items: AsyncIterator[object]) -> AsyncIterator[Item]:
    async for raw in items:
        yield await _admit(services, raw)


async def _admit(services: Services, raw: object) -> Item:
    if isinstance(raw, ApiError):
        return raw
    try:
        item = BatchItem.model_validate(raw)
        spec = find_task(item.task)
        args = await services.admission.validate(spec, item.args)
    except ValidationError as exc:
        return _shortened(validation_problem(exc, within="item"))
    except InvalidRequest as exc:
        return _shortened(exc)
    except ApiError as exc:
        return exc
    return Submission(spec, args, resolve_run_at(None, item.delay))


def _shortened(problem: InvalidRequest) -> InvalidRequest:
    errors = problem.members["errors"]
    if len(errors) <= _ERRORS_SHOWN:
        return problem
    shown = [InvalidField.model_validate(error) for error in errors[:_ERRORS_SHOWN]]
    return type(problem)(shown)


async def _accepted(batch: SubmittedBatch, status: BatchStatus | None) -> bytes:
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
    items = [
        _outcome(record.id, index, batch.refusals.get(index))
        async for index in yielding(range(batch.total))
    ]
    return _with_list(
        _ACCEPTED.dump_json(view, exclude_none=True, exclude={"items"}), "items", items
    )


def _outcome(batch_id: str, index: int, refusal: ApiError | None) -> bytes:
    members = [b'"index":%d' % index]
    if refusal is None or isinstance(refusal, OutcomeUnknown):
        members.append(b'"id":"%s"' % batch_job_id(batch_id, index).encode())
    if refusal is not None:
        members.append(b'"problem":%s' % _PROBLEM.dump_json(problem_body(refusal)))
    return b"{%s}" % b",".join(members)


def _with_list(document: bytes, name: str, elements: list[bytes]) -> bytes:
    """Return a JSON object with one more member: as models, its elements would take too long."""
    return b'%s,"%s":[%s]}' % (document.removesuffix(b"}"), name.encode(), b",".join(elements))


# --- reading ---

BatchId = Annotated[str, Path(min_length=1, max_length=64, description="The batch's id.")]
ListJobs = Annotated[
    bool, Query(description="false: leave out the list of jobs, which may have thousands.")
]


async def cancel_batch(services: Uses, batch_id: BatchId, *, jobs: ListJobs = True) -> Response:
    """Cancel every job that has not ended, as `POST /v1/jobs/{id}/cancel` does."""
    batch = await services.batches.read(batch_id)
    await services.canceller.cancel(await batch.job_ids())
    return await _show(await services.batch_states.read(batch_id), 202, list_jobs=jobs)


async def show_batch(
    services: Uses,
    batch_id: BatchId,
    *,
    jobs: ListJobs = True,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=MAX_WAIT_SECONDS,
            description="Answer when all jobs have ended, after N seconds at most.",
        ),
    ] = 0,
) -> Response:
    """Return the states of all jobs of a batch and the state of the whole."""
    return await _show(await services.batch_waits.wait(batch_id, wait), 200, list_jobs=jobs)


async def _show(status: BatchStatus, status_code: int, *, list_jobs: bool) -> Response:
    record = status.record
    view = BatchView(
        id=record.id,
        state=status.state,
        reception=status.reception,
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
    headers = {} if status.state.is_terminal else {"Retry-After": str(POLL_AGAIN_SECONDS)}
    return Response(content, status_code, headers, media_type="application/json")
