"""The routes of the five demonstration systems, on the same submission path as /v1.

Each names the /v1 route that succeeds it in a Link header.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Final, TypeAlias

import httpx2
from fastapi import APIRouter, Depends, Query, Response
from pydantic import EmailStr

from api.auth.api_keys import Scope
from api.auth.scopes import needs
from api.batches.intake import Item
from api.components import Components, Uses
from api.errors.openapi import SUBMIT_ERRORS, responses
from api.errors.types import (
    BatchNotFound,
    BrokerUnavailable,
    InvalidRequest,
    JobNotFound,
    ResultsUnavailable,
    UpstreamUnavailable,
)
from api.jobs.admission import REFUSALS
from api.jobs.submission import Submission
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
    calls_view,
    report_view,
    status_view,
)
from api.web.idempotency import Idempotent
from contracts.records import JobRecord
from twinlane_sdk.fields import FileName, Month
from twinlane_sdk.task_spec import Args, TaskSpec
from twinlane_tasks.csv import MAX_SAMPLE_ROWS, PROCESS_CSV, ProcessCsvArgs
from twinlane_tasks.draws import DRAW_NUMBER, DrawArgs
from twinlane_tasks.http import FAN_OUT, FETCH_URL, FetchUrlArgs
from twinlane_tasks.reports import SEND_REPORT, ReportType, SendReportArgs
from twinlane_tasks.sales import AGGREGATE_SALES, AggregateSalesArgs, Region
from twinlane_tasks.sums import SUM_NUMBERS, Integer, SumArgs

_UPSTREAM_SLACK_SECONDS: Final = 10.0

Calls = Annotated[int, Query(ge=1, le=20, description="How many calls.")]
Delay = Annotated[int, Query(ge=0, le=10, description="Seconds that each call takes.")]

router = APIRouter(tags=["demonstrations"])


def _link_to(successor: str) -> Callable[[Response], Awaitable[None]]:
    async def link(response: Response) -> None:
        response.headers["Link"] = f'<{successor}>; rel="successor-version"'

    return link


def _link_to_jobs_of(spec: TaskSpec[Any, Any]) -> Callable[[Response], Awaitable[None]]:
    return _link_to(f"/v1/tasks/{spec.name}/jobs")


# --- submitting ---

Submit: TypeAlias = Callable[[TaskSpec[Any, Any], Args], Awaitable[JobRecord]]


async def _submit(components: Uses, idempotency: Idempotent) -> Submit:
    async def submit(spec: TaskSpec[Any, Any], args: Args) -> JobRecord:
        admitted = await components.admission.admit(args)
        identity = idempotency.identity(args.model_dump_json())
        accepted = await components.submitter.submit(Submission(spec, admitted, identity=identity))
        idempotency.mark_replayed(replayed=accepted.replayed)
        return accepted.record

    return submit


Submits = Annotated[Submit, Depends(_submit)]


@router.post(
    "/send-task/",
    status_code=202,
    summary="Add two integers, slowly",
    responses=responses(*SUBMIT_ERRORS),
    dependencies=[Depends(_link_to_jobs_of(SUM_NUMBERS))],
)
@needs(Scope.SUBMIT)
async def send_task(submit: Submits, a: Integer, b: Integer) -> Accepted:
    """Add two integers after ten seconds (SUM_DELAY_SECONDS) of simulated processing."""
    return Accepted(task_id=(await submit(SUM_NUMBERS, SumArgs(a=a, b=b))).id)


@router.post(
    "/process-csv",
    status_code=202,
    summary="Process a CSV",
    responses=responses(*SUBMIT_ERRORS),
    dependencies=[Depends(_link_to_jobs_of(PROCESS_CSV))],
)
@needs(Scope.SUBMIT)
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


@router.post(
    "/aggregate",
    status_code=202,
    summary="Sum up a region and month",
    responses=responses(*SUBMIT_ERRORS),
    dependencies=[Depends(_link_to_jobs_of(AGGREGATE_SALES))],
)
@needs(Scope.SUBMIT)
async def aggregate(
    submit: Submits, region: Region = "sudeste", month: Month = "2025-01"
) -> Queued:
    """Sum up the stored sales of a region (or `all`) in a month."""
    record = await submit(AGGREGATE_SALES, AggregateSalesArgs(region=region, month=month))
    return Queued(task_id=record.id)


@router.post(
    "/send-report",
    status_code=202,
    summary="Mail a report",
    responses=responses(*SUBMIT_ERRORS, *REFUSALS[SEND_REPORT.name]),
    dependencies=[Depends(_link_to_jobs_of(SEND_REPORT))],
)
@needs(Scope.SUBMIT)
async def send_report(
    submit: Submits,
    email: EmailStr = "analista@empresa.com",
    report_type: ReportType = "vendas_mensal",
) -> Queued:
    """Render a sales report and mail it to an allowed recipient."""
    record = await submit(SEND_REPORT, SendReportArgs(email=email, report_type=report_type))
    return Queued(task_id=record.id)


@router.post(
    "/exibir",
    status_code=202,
    summary="Draw a number, with retries",
    responses=responses(*SUBMIT_ERRORS),
    dependencies=[Depends(_link_to_jobs_of(DRAW_NUMBER))],
)
@needs(Scope.SUBMIT)
async def draw(submit: Submits) -> Queued:
    """Draw 1 to 10: above 6 it is the result, otherwise the draw is retried with backoff."""
    return Queued(task_id=(await submit(DRAW_NUMBER, DrawArgs())).id)


# --- reading ---


@router.get(
    "/task-status/{task_id}",
    summary="Is a task done?",
    response_model_exclude_none=True,
    responses=responses(JobNotFound, ResultsUnavailable),
    dependencies=[Depends(_link_to("/v1/jobs/{id}"))],
)
@needs(Scope.READ)
async def task_status(components: Uses, task_id: str) -> TaskStatus:
    """Return the result of a task, or that it is still processing."""
    return status_view(task_id, await components.store.snapshot(task_id))


@router.get(
    "/tasks/{task_id}",
    summary="Show a task",
    response_model_exclude_none=True,
    responses=responses(JobNotFound, ResultsUnavailable),
    dependencies=[Depends(_link_to("/v1/jobs/{id}"))],
)
@needs(Scope.READ)
async def task_report(components: Uses, task_id: str) -> TaskReport:
    """Return a task's state with its progress, result or error."""
    return report_view(task_id, await components.store.snapshot(task_id))


@router.get(
    "/result/{task_id}",
    summary="Get the result of parallel calls",
    response_model_exclude_none=True,
    responses=responses(JobNotFound, ResultsUnavailable),
    dependencies=[Depends(_link_to("/v1/jobs/{id}"))],
)
@needs(Scope.READ)
async def calls_result(components: Uses, task_id: str) -> CallsDone | CallsFailed | CallsPending:
    """Return what the calls of /sequential_celery answered; a single job's id works as well."""
    try:
        batch = await components.batches.read(task_id)
    except BatchNotFound:
        snapshot = await components.store.snapshot(task_id)
        return calls_view([snapshot], snapshot.record.submitted_at)
    job_ids = await batch.job_ids()
    snapshots = [snapshot async for snapshot in components.store.snapshots(job_ids)]
    return calls_view(snapshots, batch.record.submitted_at)


@router.get(
    "/queue/stats",
    summary="Count tasks and messages",
    responses=responses(BrokerUnavailable),
    dependencies=[Depends(_link_to("/v1/lanes"))],
)
@needs(Scope.READ)
async def queue_stats(components: Uses) -> Stats:
    """Return what each worker has to do and what waits in each queue."""
    queues, workers = await components.broker_stats.everything()
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


# --- calling httpbin: the demonstrations had these as GET, but they make work ---


@router.get(
    "/sequential",
    summary="Call httpbin, one call after another",
    responses=responses(InvalidRequest, UpstreamUnavailable),
    dependencies=[Depends(_link_to_jobs_of(FAN_OUT))],
)
@needs(Scope.SUBMIT)
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


@router.get(
    "/sequential_celery",
    status_code=202,
    summary="Call httpbin, all calls as parallel jobs",
    responses=responses(*SUBMIT_ERRORS),
    dependencies=[Depends(_link_to("/v1/batches"))],
)
@needs(Scope.SUBMIT)
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
    idempotency.mark_replayed(replayed=batch.replayed)
    return Accepted(task_id=batch.record.id)


def _delay_url(components: Components, delay: int) -> str:
    return f"{components.settings.httpbin_url.rstrip('/')}/delay/{delay}"
