"""Every reason why a job failed, and how it is shown: read here what was written elsewhere.

A failure is written as the type of an error and its message, as Celery does. Which types there
are, what clients read of each, and who writes it, stands in one enum.
"""

from enum import Enum, StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict


class Writer(StrEnum):
    """Who writes that a job failed."""

    TASK = "the task's own code, by raising"
    EXECUTOR = "the worker, around the task"
    POOL = "Celery at the worker, when a process died or took too long"
    CONSUMER = "Celery at the worker, which does not know the task"
    DEATH_NOTICES = "the API, when the broker gave the message up"
    RECONCILER = "the API, when the broker never took the message"


class FailureReason(Enum):
    """Why a job failed.

    `retryable` says whether submitting the same again may work, `dead_lettered` whether its
    message is kept in the dead letters.
    """

    JOB_REJECTED = (
        "RejectedError",
        "job-rejected",
        "The job can't be done with this input",
        False,
        Writer.TASK,
    )
    ATTEMPTS_EXHAUSTED = (
        "RetryableError",
        "attempts-exhausted",
        "Every attempt failed",
        True,
        Writer.TASK,
    )
    DEADLINE_EXCEEDED = (
        "DeadlineExceededError",
        "deadline-exceeded",
        "The job took longer than it may",
        True,
        Writer.TASK,
    )
    SOFT_LIMIT_EXCEEDED = (
        "SoftTimeLimitExceeded",
        "deadline-exceeded",
        "The job took longer than it may",
        True,
        Writer.POOL,
    )
    HARD_LIMIT_EXCEEDED = (
        "TimeLimitExceeded",
        "deadline-exceeded",
        "The job took longer than it may",
        True,
        Writer.POOL,
    )
    WORKER_LOST = (
        "WorkerLostError",
        "worker-lost",
        "The worker died while it ran the job",
        True,
        Writer.POOL,
    )
    TASK_UNKNOWN = (
        "NotRegistered",
        "task-unknown",
        "No worker knows this task",
        True,
        Writer.CONSUMER,
    )
    NEVER_FINISHED = (
        "NeverFinishedError",
        "never-finished",
        "No run of the job came to an end",
        True,
        Writer.EXECUTOR,
    )
    DEAD_LETTERED = (
        "DeadLettered",
        "dead-lettered",
        "The broker gave the job up",
        True,
        Writer.DEATH_NOTICES,
    )
    NEVER_QUEUED = (
        "Unconfirmed",
        "never-queued",
        "The broker never took the job",
        True,
        Writer.RECONCILER,
    )
    INTERNAL_ERROR = (
        "Exception",
        "internal-error",
        "The task failed unexpectedly",
        False,
        Writer.TASK,
    )
    """Any error that is none of the others: a bug of the task."""

    def __init__(
        self,
        error_type: str,
        code: str,
        title: str,
        retryable: bool,  # noqa: FBT001 - an enum's values have places, no names
        writer: Writer,
    ) -> None:
        self.error_type = error_type
        self.code = code
        self.title = title
        self.retryable = retryable
        self.writer = writer

    @property
    def dead_lettered(self) -> bool:
        """Whether the job's message is in the dead letters: a final failure is rejected there.

        Not after the hard limit (see `task_acks_on_timeout`), nor if there never was a message.
        """
        return self not in {FailureReason.HARD_LIMIT_EXCEEDED, FailureReason.NEVER_QUEUED}


_BY_ERROR_TYPE: Final = {reason.error_type: reason for reason in FailureReason}


class Failure(BaseModel):
    """Why a job failed, as a problem object."""

    model_config = ConfigDict(frozen=True)

    code: str
    title: str
    detail: str
    error_type: str
    retryable: bool
    dead_lettered: bool


def describe_failure(result: Any) -> Failure:  # noqa: ANN401 - whatever Celery stored
    """Return the problem object of a failure, from what Celery stored as the task's result."""
    error = result if isinstance(result, dict) else {}
    error_type = str(error.get("exc_type", FailureReason.INTERNAL_ERROR.error_type))
    reason = _BY_ERROR_TYPE.get(error_type, FailureReason.INTERNAL_ERROR)
    message = error.get("exc_message", "")
    detail = " ".join(map(str, message)) if isinstance(message, list) else str(message)
    if reason is FailureReason.HARD_LIMIT_EXCEEDED:  # its only argument is the limit
        detail = f"It was stopped after {detail} seconds."
    return Failure(
        code=reason.code,
        title=reason.title,
        detail=detail or reason.title,
        error_type=error_type,
        retryable=reason.retryable,
        dead_lettered=reason.dead_lettered,
    )
