"""What the demonstration routes answer: the shapes that their clients know."""

from typing import Any

from pydantic import BaseModel, Field

from api.broker.counts import QueueCount


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
