"""Many jobs submitted together: one request, one id, one combined state."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.auth.api_keys import Scope
from api.auth.scopes import needs
from api.batches.intake import Item
from api.batches.items import NDJSON, read_items
from api.batches.states import BatchStatus
from api.components import Components, Uses
from api.errors.openapi import BODY_ERRORS, PUBLISH_ERRORS, responses
from api.errors.rendering import validation_problem
from api.errors.types import (
    ApiError,
    BatchNotFound,
    BodyTooSlow,
    IdempotencyKeyReused,
    InvalidField,
    InvalidRequest,
    ResultsUnavailable,
)
from api.jobs.admission import MAX_DELAY, find_task, resolve_run_at
from api.jobs.keyed_submission import Identity
from api.jobs.submission import Submission
from api.web.batch_body import check_length, counted, pieces, slices
from api.web.batch_view import BatchAccepted, BatchView, accepted_response, batch_response
from api.web.idempotency import Idempotency, Idempotent
from api.web.parameters import MAX_WAIT_SECONDS, preferred_wait_seconds

_ERRORS_SHOWN: Final = 5
"""Broken rules that each item's refusal names: of ten thousand items, all would be too much."""


class BatchItem(BaseModel):
    """One job to submit."""

    model_config = ConfigDict(extra="forbid")

    task: str = Field(examples=["cpu.sum_numbers"])
    args: dict[str, Any] = Field(default={}, examples=[{"a": 2, "b": 3}])
    delay: float | None = Field(
        None, ge=0, le=MAX_DELAY.total_seconds(), description="Seconds until the job starts."
    )


BatchId = Annotated[str, Path(min_length=1, max_length=64, description="The batch's id.")]
ListJobs = Annotated[
    bool, Query(description="false: leave out the list of jobs, which may have thousands.")
]
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "array", "items": BatchItem.model_json_schema()}
            },
            NDJSON: {"schema": {"type": "string", "description": "An item a line."}},
        },
    }
}

router = APIRouter(prefix="/v1/batches", tags=["batches"])


@router.post(
    "",
    status_code=202,
    summary="Submit many jobs",
    response_model=BatchAccepted,
    responses=responses(
        *(*BODY_ERRORS, BodyTooSlow, InvalidRequest, IdempotencyKeyReused),
        *(*PUBLISH_ERRORS, ResultsUnavailable),
    )
    | {200: {"model": BatchAccepted, "description": "All ended within `Prefer: wait=N`."}},
    openapi_extra=_BODY,
)
@needs(Scope.SUBMIT)
async def create_batch(
    components: Uses,
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
    check_length(request, components.settings.max_body_bytes)
    raw, identity = await _read(request, idempotency, components.settings.max_batch_items)
    batch = await components.batch_submitter.submit(_admitted(components, raw), identity)
    idempotency.mark_replayed(replayed=batch.replayed)
    wait_seconds = preferred_wait_seconds(prefer)
    status = await _waited(components, batch.record.id, wait_seconds) if wait_seconds else None
    headers = dict(response.headers) | {"Location": f"/v1/batches/{batch.record.id}"}
    if status:
        headers["Preference-Applied"] = f"wait={wait_seconds}"
    return await accepted_response(batch, status, headers)


@router.post(
    "/{batch_id}/cancel",
    status_code=202,
    summary="Cancel all jobs of a batch",
    response_model=BatchView,
    responses=responses(BatchNotFound, ResultsUnavailable),
)
@needs(Scope.SUBMIT)
async def cancel_batch(components: Uses, batch_id: BatchId, *, jobs: ListJobs = True) -> Response:
    """Cancel every job that has not ended, as `POST /v1/jobs/{id}/cancel` does."""
    batch = await components.batches.read(batch_id)
    await components.canceller.cancel(await batch.job_ids())
    return await batch_response(await components.batch_states.read(batch_id), 202, list_jobs=jobs)


@router.get(
    "/{batch_id}",
    summary="Show a batch",
    response_model=BatchView,
    responses=responses(BatchNotFound, ResultsUnavailable),
)
@needs(Scope.READ)
async def show_batch(
    components: Uses,
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
    status = await components.batch_waits.wait(batch_id, wait)
    return await batch_response(status, 200, list_jobs=jobs)


async def _read(
    request: Request, idempotency: Idempotency, limit: int
) -> tuple[AsyncIterator[object], Identity | None]:
    """Return the items of the body as they come in; with a key, after all have been read."""
    content_type = request.headers.get("Content-Type", "")
    if "Idempotency-Key" not in request.headers:
        return counted(read_items(pieces(request), content_type), limit), None
    whole = b"".join([piece async for piece in pieces(request)])
    async for _ in counted(read_items(slices(whole), content_type), limit):
        pass  # what is wrong with the body is found before anything is queued
    items = counted(read_items(slices(whole), content_type), limit)
    return items, idempotency.identity(whole)


async def _admitted(components: Components, items: AsyncIterator[object]) -> AsyncIterator[Item]:
    async for raw in items:
        yield await _admit(components, raw)


async def _admit(components: Components, raw: object) -> Item:
    if isinstance(raw, ApiError):
        return raw
    try:
        item = BatchItem.model_validate(raw)
        spec = find_task(components.catalogue, item.task)
        args = await components.admission.validate(spec, item.args)
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


async def _waited(components: Components, batch_id: str, seconds: float) -> BatchStatus | None:
    """Return the batch when all of its jobs have ended; None if nobody can say whether they have.

    It was accepted, whatever else can't be read just now.
    """
    try:
        return await components.batch_waits.wait(batch_id, seconds)
    except ResultsUnavailable:
        return None
