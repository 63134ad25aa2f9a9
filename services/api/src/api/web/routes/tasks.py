"""The catalogue, and one route per task to submit a job of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, Field

from api.auth.api_keys import Scope
from api.auth.scopes import needs
from api.components import Components, Uses
from api.errors.openapi import BODY_ERRORS, SUBMIT_ERRORS, responses
from api.errors.types import TaskNotFound
from api.jobs.admission import MAX_DELAY, REFUSALS, find_task, resolve_run_at
from api.jobs.submission import Submission
from api.jobs.waiting import WaitOutcome, submit_and_wait
from api.web.fast_path import fast_path
from api.web.idempotency import Keyed, replayed_header
from api.web.job_view import JobView, job_response, job_view, new_job_view
from api.web.parameters import preferred_wait_seconds
from twinlane_sdk.retry_policy import RetryPolicy
from twinlane_sdk.task_spec import Args, TaskSpec


class RetryPolicyView(BaseModel):
    """How often and how patiently a failing job is tried again."""

    max_attempts: int
    base_seconds: float
    max_seconds: float


class TaskView(BaseModel):
    """A kind of work: what it takes, what it gives, and its policies."""

    name: str
    lane: str
    summary: str
    deadline_seconds: float
    retry: RetryPolicyView
    stages: list[str]
    args_schema: dict[str, Any] = Field(description="JSON Schema of the body to submit.")
    result_schema: dict[str, Any] = Field(description="JSON Schema of the result.")


class TaskList(BaseModel):
    """All kinds of work."""

    tasks: list[TaskView]


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """When a job is due, and for how many seconds the client would wait for its result."""

    run_at: datetime | None
    wait_seconds: int
    when: str
    """As the client said it: a request that is repeated later says the same."""


def create_router(catalogue: Mapping[str, TaskSpec[Any, Any]]) -> APIRouter:
    """Return the routes below /v1/tasks: each task of the catalogue has one to submit a job."""
    router = APIRouter(prefix="/v1/tasks", tags=["tasks"])

    @router.get("", summary="List the tasks")
    @needs(Scope.READ)
    async def list_tasks() -> TaskList:
        """Return every task with the JSON Schemas of its arguments and result."""
        return TaskList(tasks=[_task_view(spec) for spec in catalogue.values()])

    @router.get("/{name}", summary="Show one task", responses=responses(TaskNotFound))
    @needs(Scope.READ)
    async def show_task(
        name: Annotated[str, Path(description="The task's name, as in the list.")],
    ) -> TaskView:
        """Return one task with the JSON Schemas of its arguments and result."""
        return _task_view(find_task(catalogue, name))

    for spec in catalogue.values():
        router.post(
            f"/{spec.name}/jobs",
            status_code=202,
            summary=f"Submit {spec.name}",
            description=f"{spec.summary} Runs on the {spec.lane} lane.",
            operation_id=f"submit_{spec.name.replace('.', '_')}",
            response_model=JobView,
            responses=responses(*BODY_ERRORS, *SUBMIT_ERRORS, *REFUSALS.get(spec.name, ()))
            | {200: {"model": JobView, "description": "Finished within `Prefer: wait=N`."}},
        )(_submit_endpoint(spec))

    @router.post("/{name}/jobs", include_in_schema=False)
    @needs(Scope.SUBMIT)
    async def submit_unknown(name: str) -> None:
        """Refuse a job of a task that is not in the catalogue: the others are above."""
        find_task(catalogue, name)

    return router


async def submit_options(
    delay: Annotated[
        float | None,
        Query(ge=0, le=MAX_DELAY.total_seconds(), description="Seconds until the job starts."),
    ] = None,
    run_at: Annotated[
        AwareDatetime | None, Query(description="When the job starts, with a time zone.")
    ] = None,
    prefer: Annotated[
        str | None, Header(description="`wait=N`: wait up to N ≤ 60 s for the result (RFC 7240)")
    ] = None,
) -> SubmitOptions:
    """Read when a job is due and how long the client would wait for it."""
    due = resolve_run_at(run_at, delay)
    return SubmitOptions(due, preferred_wait_seconds(prefer), f"{delay} {run_at}")


def _submit_endpoint(spec: TaskSpec[Any, Any]) -> Callable[..., Awaitable[Response]]:
    """Return the function of the route to submit a job: its body is the task's arguments."""
    args_type: Any = Annotated[spec.args, Body()]

    @needs(Scope.SUBMIT)
    @fast_path
    async def submit(
        components: Uses,
        options: Annotated[SubmitOptions, Depends(submit_options)],
        key: Keyed,
        args: args_type,
    ) -> Response:
        admitted = await components.admission.admit(args)
        identity = key.identity(args.model_dump_json(), options.when)
        submission = Submission(spec, admitted, options.run_at, identity)
        if options.wait_seconds:
            awaited = await submit_and_wait(
                components.submitter,
                components.store,
                components.changes,
                submission,
                options.wait_seconds,
            )
        else:
            awaited = WaitOutcome(await components.submitter.submit(submission), None)
        return await _answer(components, awaited, options.wait_seconds)

    if not any(field.is_required() for field in spec.args.model_fields.values()):
        submit.__defaults__ = (spec.args(),)  # the body may be left out
    return submit


async def _answer(components: Components, awaited: WaitOutcome, wait_seconds: int) -> Response:
    """Show a job as it was accepted, or as it ended when the client preferred to wait."""
    accepted, snapshot = awaited
    record = accepted.record
    headers = {"Location": f"/v1/jobs/{record.id}"} | replayed_header(replayed=accepted.replayed)
    if wait_seconds:
        headers["Preference-Applied"] = f"wait={wait_seconds}"
    elif accepted.replayed:
        snapshot = await components.store.snapshot(record.id)
    view = job_view(snapshot) if snapshot else new_job_view(record)
    status_code = 200 if wait_seconds and view.state.is_terminal else 202
    return job_response(view, status_code, headers)


def _task_view(spec: TaskSpec[Any, Any]) -> TaskView:
    args: type[Args] = spec.args
    return TaskView(
        name=spec.name,
        lane=spec.lane,
        summary=spec.summary,
        deadline_seconds=spec.deadline.total_seconds(),
        retry=_retry_view(spec.retry),
        stages=[stage.name for stage in spec.stages],
        args_schema=args.model_json_schema(),
        result_schema=spec.result.model_json_schema(mode="serialization"),
    )


def _retry_view(policy: RetryPolicy) -> RetryPolicyView:
    return RetryPolicyView(
        max_attempts=policy.max_attempts,
        base_seconds=policy.base_seconds,
        max_seconds=policy.max_seconds,
    )
