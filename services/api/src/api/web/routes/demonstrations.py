"""The routes of the five demonstration systems, on the same submission path as /v1."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

import httpx2
from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, EmailStr

from api.batches.states import combined_state
from api.batches.submission import Item
from api.components import Components, Uses
from api.errors.openapi import responses
from api.errors.types import (
    BatchNotFound,
    BrokerUnavailable,
    IdempotencyKeyReused,
    InvalidRequest,
    JobNotFound,
    LaneFull,
    OutcomeUnknown,
    Overloaded,
    ResultsUnavailable,
    UpstreamUnavailable,
)
from api.jobs.admission import REFUSALS
from api.jobs.submission import Submission
from api.store.jobs import JobSnapshot
from api.web.demonstration_views import (
    Accepted,
    CallsDone,
    CallsFailed,
    CallsPending,
    Queued,
    QueuedCsv,
    Stats,
    TaskReport,
    TaskStatus,
    WorkerStats,
)
from api.web.idempotency import Idempotent
from api.web.routes.lanes import count_everything
from contracts.records import PROGRESS_STATE, JobRecord, JobState
from contracts.schemas import (
    MAX_SAMPLE_ROWS,
    AggregateSalesArgs,
    Args,
    DrawArgs,
    FetchUrlArgs,
    FileName,
    Integer,
    Month,
    ProcessCsvArgs,
    Region,
    ReportType,
    SendReportArgs,
    SumArgs,
)
from contracts.tasks import (
    AGGREGATE_SALES,
    DRAW_NUMBER,
    FETCH_URL,
    PROCESS_CSV,
    SEND_REPORT,
    SUM_NUMBERS,
    TaskSpec,
)

STILL_PROCESSING: Final = "Task is still processing"
STILL_IN_PROGRESS: Final = "Task is still in progress"
_CELERY_NAMES: Final = {
    JobState.SCHEDULED: "PENDING",
    JobState.QUEUED: "PENDING",
    JobState.RUNNING: "STARTED",
    JobState.RETRYING: "RETRY",
    JobState.SUCCEEDED: "SUCCESS",
    JobState.FAILED: "FAILURE",
    JobState.CANCELLED: "REVOKED",
}
_UPSTREAM_SLACK_SECONDS: Final = 10.0
_SUBMIT_ERRORS: Final = (
    InvalidRequest,
    IdempotencyKeyReused,
    BrokerUnavailable,
    LaneFull,
    OutcomeUnknown,
    Overloaded,
    ResultsUnavailable,
)
_READ_ERRORS = responses(JobNotFound, ResultsUnavailable)

Calls = Annotated[int, Query(ge=1, le=20, description="How many calls.")]
Delay = Annotated[int, Query(ge=0, le=10, description="Seconds that each call takes.")]


@dataclass(frozen=True, slots=True)
class _Route:
    """A demonstration route and the /v1 route that succeeds it."""

    method: str
    path: str
    endpoint: Callable[..., Awaitable[BaseModel]]
    summary: str
    successor: str
    errors: dict[int | str, dict[str, Any]]
    status: int = 200


def create_router() -> APIRouter:
    """Return the demonstration routes; each names its successor in a Link header."""
    router = APIRouter(tags=["demonstrations"])
    for route in _routes():
        router.add_api_route(
            route.path,
            route.endpoint,
            methods=[route.method],
            summary=route.summary,
            status_code=route.status,
            responses=route.errors,
            response_model_exclude_none=True,
            dependencies=[Depends(_link_to(route.successor))],
        )
    return router


def _routes() -> list[_Route]:
    return [
        _submits("/send-task/", send_task, "Add two integers, slowly", SUM_NUMBERS),
        _submits("/process-csv", process_csv, "Process a CSV", PROCESS_CSV),
        _submits("/aggregate", aggregate, "Sum up a region and month", AGGREGATE_SALES),
        _submits("/send-report", send_report, "Mail a report", SEND_REPORT),
        _submits("/exibir", draw, "Draw a number, with retries", DRAW_NUMBER),
        _reads("/task-status/{task_id}", task_status, "Is a task done?"),
        _reads("/tasks/{task_id}", task_report, "Show a task"),
        _reads("/result/{task_id}", calls_result, "Get the result of parallel calls"),
        _Route(
            "GET",
            "/queue/stats",
            queue_stats,
            "Count tasks and messages",
            "/v1/lanes",
            responses(BrokerUnavailable),
        ),
        _Route(
            "GET",
            "/sequential",
            sequential,
            "Call httpbin, one call after another",
            "/v1/tasks/io.fan_out/jobs",
            responses(InvalidRequest, UpstreamUnavailable),
        ),
        _Route(
            "GET",
            "/sequential_celery",
            sequential_celery,
            "Call httpbin, all calls as parallel jobs",
            "/v1/batches",
            responses(*_SUBMIT_ERRORS),
            status=202,
        ),
    ]


def _submits(
    path: str, endpoint: Callable[..., Awaitable[BaseModel]], summary: str, spec: TaskSpec[Any, Any]
) -> _Route:
    successor = f"/v1/tasks/{spec.name}/jobs"
    errors = responses(*_SUBMIT_ERRORS, *REFUSALS.get(spec.name, ()))
    return _Route("POST", path, endpoint, summary, successor, errors, status=202)


def _reads(path: str, endpoint: Callable[..., Awaitable[BaseModel]], summary: str) -> _Route:
    return _Route("GET", path, endpoint, summary, "/v1/jobs/{id}", _READ_ERRORS)


def _link_to(successor: str) -> Callable[[Response], Awaitable[None]]:
    async def link(response: Response) -> None:
        response.headers["Link"] = f'<{successor}>; rel="successor-version"'

    return link


# --- submitting ---

Submit: TypeAlias = Callable[[TaskSpec[Any, Any], Args], Awaitable[JobRecord]]


async def _submit(components: Uses, idempotency: Idempotent) -> Submit:
    async def submit(spec: TaskSpec[Any, Any], args: Args) -> JobRecord:
        admitted = await components.admission.admit(args)
        identity = idempotency.identity(args.model_dump_json())
        accepted = await components.submitter.submit(Submission(spec, admitted, identity=identity))
        idempotency.tell(replayed=accepted.replayed)
        return accepted.record

    return submit


Submits = Annotated[Submit, Depends(_submit)]


async def send_task(submit: Submits, a: Integer, b: Integer) -> Accepted:
    """Add two integers after ten seconds (SUM_DELAY_SECONDS) of simulated processing."""
    return Accepted(task_id=(await submit(SUM_NUMBERS, SumArgs(a=a, b=b))).id)


async def process_csv(
    submit: Submits,
    filename: FileName = "vendas_2025.csv",
    num_rows: Annotated[int, Query(ge=1, le=MAX_SAMPLE_ROWS)] = 100_000,
) -> QueuedCsv:
    """Process an uploaded file, or a generated sample when none has that name."""
    record = await submit(PROCESS_CSV, ProcessCsvArgs(filename=filename, num_rows=num_rows))
    stored = record.args["file_id"] is not None
    what = f"the uploaded {filename}" if stored else f"a sample of {num_rows:,} rows as {filename}"
    return QueuedCsv(task_id=record.id, message=f"Processing {what}.")


async def aggregate(
    submit: Submits, region: Region = "sudeste", month: Month = "2025-01"
) -> Queued:
    """Sum up the stored sales of a region (or `all`) in a month."""
    record = await submit(AGGREGATE_SALES, AggregateSalesArgs(region=region, month=month))
    return Queued(task_id=record.id)


async def send_report(
    submit: Submits,
    email: EmailStr = "analista@empresa.com",
    report_type: ReportType = "vendas_mensal",
) -> Queued:
    """Render a sales report and mail it to an allowed recipient."""
    record = await submit(SEND_REPORT, SendReportArgs(email=email, report_type=report_type))
    return Queued(task_id=record.id)


async def draw(submit: Submits) -> Queued:
    """Draw 1 to 10: above 6 it is the result, otherwise the draw is retried with backoff."""
    return Queued(task_id=(await submit(DRAW_NUMBER, DrawArgs())).id)


async def sequential_celery(
    components: Uses, idempotency: Idempotent, n: Calls = 10, delay: Delay = 3
) -> Accepted:
    """Make the calls of /sequential as jobs of one batch, in parallel on the io lane."""
    args = await components.admission.admit(FetchUrlArgs(url=_delay_url(components, delay)))

    async def calls() -> AsyncIterator[Item]:
        for _ in range(n):
            yield Submission(FETCH_URL, args)

    identity = idempotency.identity(f"{n} {delay}")
    batch = await components.batch_submitter.submit(calls(), identity)
    idempotency.tell(replayed=batch.replayed)
    return Accepted(task_id=batch.record.id)


# --- reading ---


async def task_status(components: Uses, task_id: str) -> TaskStatus:
    """Return the result of a task, or that it is still processing."""
    snapshot = await components.store.snapshot(task_id)
    state = _celery_name(snapshot)
    status = state if snapshot.status.state.is_terminal else STILL_PROCESSING
    return TaskStatus(task_id=task_id, status=status, state=state, result=_plain_result(snapshot))


async def task_report(components: Uses, task_id: str) -> TaskReport:
    """Return a task's state with its progress, result or error."""
    snapshot = await components.store.snapshot(task_id)
    progress = snapshot.status.progress
    return TaskReport(
        task_id=task_id,
        status=_celery_name(snapshot),
        progress=progress.model_dump(mode="json") if progress else None,
        result=_plain_result(snapshot),
        error=_error(snapshot),
    )


async def calls_result(components: Uses, task_id: str) -> CallsDone | CallsFailed | CallsPending:
    """Return what the calls of /sequential_celery answered; a single job's id works as well."""
    try:
        batch = await components.batches.read(task_id)
    except BatchNotFound:
        snapshots = [await components.store.snapshot(task_id)]
        submitted_at = snapshots[0].record.submitted_at
    else:
        job_ids = await batch.job_ids()
        snapshots = [snapshot async for snapshot in components.store.snapshots(job_ids)]
        submitted_at = batch.record.submitted_at
    state = combined_state(Counter(snapshot.status.state for snapshot in snapshots))
    if not state.is_terminal:
        return CallsPending(status=STILL_IN_PROGRESS, state=_CELERY_NAMES[state])
    if state is not JobState.SUCCEEDED:
        errors = "; ".join(dict.fromkeys(filter(None, map(_error, snapshots))))
        return CallsFailed(status="Task failed", state=_CELERY_NAMES[state], error=errors)
    finished_at = max(s.status.finished_at or submitted_at for s in snapshots)
    return CallsDone(
        status=[_answer(snapshot) for snapshot in snapshots],
        time_taken=(finished_at - submitted_at).total_seconds(),
    )


async def queue_stats(components: Uses) -> Stats:
    """Return what each worker has to do and what waits in each queue."""
    queues, workers = await count_everything(components.broker_stats)
    return Stats(
        workers={
            worker.name: WorkerStats(
                active_tasks=worker.count.active, reserved_tasks=worker.count.reserved
            )
            for worker in workers
        },
        total_workers=len(workers),
        queues=queues,
    )


async def sequential(components: Uses, n: Calls = 10, delay: Delay = 3) -> CallsDone:
    """Call httpbin n times, one call after another, while the client waits."""
    url = _delay_url(components, delay)
    started = time.perf_counter()
    statuses = []
    for _ in range(n):
        try:
            answer = await components.upstream.get(url, timeout=delay + _UPSTREAM_SLACK_SECONDS)
        except httpx2.HTTPError as exc:
            raise UpstreamUnavailable(f"{url}: {exc!r}.") from exc
        statuses.append(answer.status_code)
    return CallsDone(status=statuses, time_taken=time.perf_counter() - started)


def _delay_url(components: Components, delay: int) -> str:
    return f"{components.settings.httpbin_url.rstrip('/')}/delay/{delay}"


def _celery_name(snapshot: JobSnapshot) -> str:
    if snapshot.status.progress:
        return PROGRESS_STATE
    return _CELERY_NAMES[snapshot.status.state]


def _plain_result(snapshot: JobSnapshot) -> Any:  # noqa: ANN401 - JSON
    """Return the bare number where the demonstrations had one."""
    match snapshot.record.task:
        case SUM_NUMBERS.name if snapshot.result:
            return snapshot.result["total"]
        case DRAW_NUMBER.name if snapshot.result:
            return snapshot.result["number"]
        case _:
            return snapshot.result


def _answer(snapshot: JobSnapshot) -> Any:  # noqa: ANN401 - JSON
    if snapshot.record.task == FETCH_URL.name:
        return snapshot.result["status"]
    return _plain_result(snapshot)


def _error(snapshot: JobSnapshot) -> str | None:
    failure = snapshot.status.failure
    if failure is None:
        return None
    return f"{failure.error_type}: {failure.detail}"
