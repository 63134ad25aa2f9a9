"""One job: its state, its result, its artifacts."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse

from api.components import Uses
from api.errors.openapi import responses
from api.errors.types import (
    ArtifactNotFound,
    JobHasNoResult,
    JobNotFinished,
    JobNotFound,
    RangeNotSatisfiable,
    ResultsUnavailable,
)
from api.jobs.waiting import wait_for_change
from api.web.artifact_response import ArtifactList, list_artifacts, stream_artifact
from api.web.fast_path import BusyRoute
from api.web.job_events import stream_events
from api.web.job_view import JobId, JobView, is_stored_result, job_response, job_view
from api.web.parameters import MAX_WAIT_SECONDS
from contracts.records import JobState


def create_router() -> APIRouter:
    """Return the routes below /v1/jobs."""
    router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])
    router.add_api_route(
        "",
        show_job,
        summary="Show a job",
        response_model=JobView,
        responses=responses(JobNotFound, ResultsUnavailable),
        methods=["GET"],
        route_class_override=BusyRoute,
    )
    router.add_api_route(
        "/cancel",
        cancel_job,
        methods=["POST"],
        status_code=202,
        summary="Cancel a job",
        response_model=JobView,
        responses=responses(JobNotFound, ResultsUnavailable),
    )
    router.add_api_route(
        "/result",
        show_result,
        summary="Get a job's result",
        responses=responses(JobNotFound, JobNotFinished, JobHasNoResult, ResultsUnavailable),
        methods=["GET"],
    )
    router.add_api_route(
        "/events",
        stream_events,
        summary="Follow a job",
        response_class=EventSourceResponse,
        responses=responses(JobNotFound, ResultsUnavailable),
        methods=["GET"],
    )
    router.add_api_route(
        "/artifacts",
        show_artifacts,
        summary="List a job's artifacts",
        response_model=ArtifactList,
        responses=responses(JobNotFound, ResultsUnavailable),
        methods=["GET"],
    )
    router.add_api_route(
        "/artifacts/{name}",
        download_artifact,
        summary="Download an artifact",
        response_class=Response,
        responses=responses(JobNotFound, ArtifactNotFound, RangeNotSatisfiable, ResultsUnavailable)
        | {206: {"description": "The wanted range."}, 304: {"description": "Not modified."}},
        methods=["GET"],
    )
    return router


async def show_job(
    services: Uses,
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
        services.store, services.changes, job_id, wait, until_terminal=False
    )
    return job_response(job_view(snapshot))


async def cancel_job(services: Uses, job_id: JobId) -> Response:
    """Have a job not run, or stop: durably, whether or not a worker is there to hear it.

    What waits is cancelled at once. What runs stops when its task can, and may yet succeed before;
    a job of the cpu lane that does not stop is ended by force (`CANCEL_GRACE_SECONDS`). What has
    ended stays as it is.
    """
    await services.store.snapshot(job_id)
    await services.canceller.cancel([job_id])
    return job_response(job_view(await services.store.snapshot(job_id)), 202)


async def show_result(services: Uses, request: Request, job_id: JobId) -> Response:
    """Return only the result, as JSON; one above 64 KiB is streamed from storage."""
    snapshot = await services.store.snapshot(job_id)
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
        return await stream_artifact(services.storage, job_id, "result.json", request.headers)
    return JSONResponse(result)


async def show_artifacts(services: Uses, job_id: JobId) -> ArtifactList:
    """Return the files that the job has left behind so far."""
    await services.store.snapshot(job_id)
    return await list_artifacts(services.storage, job_id)


async def download_artifact(
    services: Uses,
    request: Request,
    job_id: JobId,
    name: Annotated[str, Path(min_length=1, max_length=200, description="The artifact's name.")],
) -> Response:
    """Stream a file that the job left behind; understands `Range` and `If-None-Match`."""
    await services.store.snapshot(job_id)
    return await stream_artifact(services.storage, job_id, name, request.headers)
