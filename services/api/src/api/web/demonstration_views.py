"""What the demonstration routes answer: the shapes that their clients know."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, Field

from api.batches.states import combined_state
from api.broker.counts import QueueCount
from api.store.jobs import JobSnapshot
from contracts.states import PROGRESS_STATE, JobState
from twinlane_tasks.draws import DRAW_NUMBER
from twinlane_tasks.http import FETCH_URL
from twinlane_tasks.sums import SUM_NUMBERS

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


class Accepted(BaseModel):
    """The id to ask for."""

    task_id: str


class Queued(Accepted):
    """The id to ask for; the job waits in its queue."""

    status: str = "queued"


class QueuedCsv(Queued):
    """The id to ask for, and what will be done."""

    message: str


class TaskStatus(BaseModel):
    """Whether a task is done: `status` says that it is still processing until then."""

    task_id: str
    status: str
    state: str = Field(description="Celery's name of the state.")
    result: Any = None


class TaskReport(BaseModel):
    """A task with its progress, its result or its error."""

    task_id: str
    status: str = Field(
        description="PENDING, STARTED, PROCESSING, RETRY, SUCCESS, FAILURE or REVOKED."
    )
    progress: dict[str, Any] | None = None
    result: Any = None
    error: str | None = None


class CallsDone(BaseModel):
    """What the calls answered, and the seconds that all of them took."""

    status: list[Any]
    time_taken: float


class CallsPending(BaseModel):
    """The calls are still being made."""

    status: str
    state: str


class CallsFailed(CallsPending):
    """A call failed for good."""

    error: str


class WorkerStats(BaseModel):
    """The tasks that a worker runs and those that it holds for later."""

    active_tasks: int
    reserved_tasks: int


class Stats(BaseModel):
    """All workers and queues."""

    workers: dict[str, WorkerStats]
    total_workers: int
    queues: dict[str, QueueCount]


def status_view(task_id: str, snapshot: JobSnapshot) -> TaskStatus:
    """Show the result of a task, or that it is still processing."""
    state = _celery_name(snapshot)
    status = state if snapshot.status.state.is_terminal else STILL_PROCESSING
    return TaskStatus(task_id=task_id, status=status, state=state, result=_plain_result(snapshot))


def report_view(task_id: str, snapshot: JobSnapshot) -> TaskReport:
    """Show a task with its progress, result or error."""
    progress = snapshot.status.progress
    return TaskReport(
        task_id=task_id,
        status=_celery_name(snapshot),
        progress=progress.model_dump(mode="json") if progress else None,
        result=_plain_result(snapshot),
        error=_error(snapshot),
    )


def calls_view(
    snapshots: Sequence[JobSnapshot], submitted_at: datetime
) -> CallsDone | CallsFailed | CallsPending:
    """Show what calls answered once all are done, or why one failed."""
    state = combined_state(Counter(snapshot.status.state for snapshot in snapshots))
    if not state.is_terminal:
        return CallsPending(status=STILL_IN_PROGRESS, state=_CELERY_NAMES[state])
    if state is not JobState.SUCCEEDED:
        errors = "; ".join(dict.fromkeys(filter(None, map(_error, snapshots))))
        return CallsFailed(status="Task failed", state=_CELERY_NAMES[state], error=errors)
    finished_at = max(snapshot.status.finished_at or submitted_at for snapshot in snapshots)
    return CallsDone(
        status=[_answer(snapshot) for snapshot in snapshots],
        time_taken=(finished_at - submitted_at).total_seconds(),
    )


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
