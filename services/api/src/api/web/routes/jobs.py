"""One job: its state, its result, its artifacts."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.auth.api_keys import Scope
from api.auth.scopes import needs
from api.components import Uses
from api.errors.openapi import responses
from api.errors.types import (
    ApiError,
    ArtifactNotFound,
    JobHasNoResult,
    JobNotFinished,
    JobNotFound,
    RangeNotSatisfiable,
    ResultsUnavailable,
)
from api.jobs.waiting import wait_for_change
from api.store.jobs import JobSnapshot
from api.web.artifact_response import ArtifactList, list_artifacts, stream_artifact
from api.web.fast_path import fast_path
from api.web.job_events import job_events
from api.web.job_view import JobId, JobView, job_response, job_view
from api.web.parameters import MAX_WAIT_SECONDS
from contracts.results import is_stored_result
from contracts.states import JobState

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get(
    "/{job_id}",
    summary="Show a job",
    response_model=JobView,
    responses=responses(JobNotFound, ResultsUnavailable),
)
@needs(Scope.READ)
@fast_path
async def show_job(
    components: Uses,
    job_id: JobId,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=MAX_WAIT_SECONDS,
            description="Answer when the job is terminal or has changed, after N seconds at most.",
        ),
    ] = 0,
) -> Response:
    """Return a job's state, progress, attempts, and its result or error."""
    snapshot = await wait_for_change(
        components.store, components.changes, job_id, wait, until_terminal=False
    )
    return job_response(job_view(snapshot))


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    response_model=JobView,
    responses=responses(JobNotFound, ResultsUnavailable),
)
@needs(Scope.SUBMIT)
async def cancel_job(components: Uses, job_id: JobId) -> Response:
    """Have a job not run, or stop: durably, whether or not a worker is there to hear it.

    What waits is cancelled at once. What runs stops when its task can, and may yet succeed before;
    a job of the cpu lane that does not stop is ended by force (`CANCEL_GRACE_SECONDS`). What has
    ended stays as it is.
    """
    await components.store.snapshot(job_id)
    await components.canceller.cancel([job_id])
    return job_response(job_view(await components.store.snapshot(job_id)), 202)


@router.get(
    "/{job_id}/result",
    summary="Get a job's result",
    responses=responses(JobNotFound, JobNotFinished, JobHasNoResult, ResultsUnavailable),
)
@needs(Scope.READ)
async def show_result(components: Uses, request: Request, job_id: JobId) -> Response:
    """Return only the result, as JSON; one above 64 KiB is streamed from storage."""
    snapshot = await components.store.snapshot(job_id)
    state = snapshot.status.state
    if not state.is_terminal:
        raise JobNotFinished(f"Job {job_id} is {state}; ask again later.", state=state)
    if state is not JobState.SUCCEEDED:
        failure = snapshot.status.failure
        raise JobHasNoResult(
            f"Job {job_id} {state}: {failure.detail if failure else state}.", state=state
        )
    result: Any = snapshot.result
    if is_stored_result(result):
        return await stream_artifact(components.storage, job_id, "result.json", request.headers)
    return JSONResponse(result)


async def first_snapshot(components: Uses, job_id: JobId) -> JobSnapshot:
    """Return the job before the stream of its events begins, while there can be a problem."""
    return await components.store.snapshot(job_id)


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    response_class=EventSourceResponse,
    responses=responses(JobNotFound, ResultsUnavailable),
)
@needs(Scope.READ)
async def stream_events(
    components: Uses,
    first: Annotated[JobSnapshot, Depends(first_snapshot)],
    last_event_id: Annotated[
        int, Header(alias="Last-Event-ID", ge=-1, description="What was seen: go on after it.")
    ] = -1,
) -> AsyncIterator[ServerSentEvent]:
    """Stream `state` events with the job's states, `progress` while it runs, and one `end`."""
    events = job_events(components.store, components.changes, first, last_event_id + 1)
    try:
        async for event in events:
            yield event
    except ApiError:
        return  # the client comes back by itself, and goes on where it was


@router.get(
    "/{job_id}/artifacts",
    summary="List a job's artifacts",
    responses=responses(JobNotFound, ResultsUnavailable),
)
@needs(Scope.READ)
async def show_artifacts(components: Uses, job_id: JobId) -> ArtifactList:
    """Return the files that the job has left behind so far."""
    await components.store.snapshot(job_id)
    return await list_artifacts(components.storage, job_id)


@router.get(
    "/{job_id}/artifacts/{name}",
    summary="Download an artifact",
    response_class=Response,
    responses=responses(JobNotFound, ArtifactNotFound, RangeNotSatisfiable, ResultsUnavailable)
    | {206: {"description": "The wanted range."}, 304: {"description": "Not modified."}},
)
@needs(Scope.READ)
async def download_artifact(
    components: Uses,
    request: Request,
    job_id: JobId,
    name: Annotated[str, Path(min_length=1, max_length=200, description="The artifact's name.")],
) -> Response:
    """Stream a file that the job left behind; understands `Range` and `If-None-Match`."""
    await components.store.snapshot(job_id)
    return await stream_artifact(components.storage, job_id, name, request.headers)
