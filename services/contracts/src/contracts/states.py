"""The states of a job, and Celery's names for those of its tasks."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

STARTED_STATE: Final = "STARTED"
PROGRESS_STATE: Final = "PROCESSING"
"""Celery state of a running task that has reported progress."""
RETRY_STATE: Final = "RETRY"
SUCCESS_STATE: Final = "SUCCESS"
FAILURE_STATE: Final = "FAILURE"
REVOKED_STATE: Final = "REVOKED"

BEGUN_STATES: Final = frozenset({STARTED_STATE, PROGRESS_STATE})
"""Celery states of a task that a worker runs."""


class JobState(StrEnum):
    """Where a job is: scheduled → queued → running ⇄ retrying → one of the terminal three."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the state is final."""
        return self in _TERMINAL

    @property
    def has_begun(self) -> bool:
        """Whether a worker has had the job: it has certainly reached the broker."""
        return self not in _NOT_BEGUN


_TERMINAL: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
_NOT_BEGUN: Final = frozenset({JobState.SCHEDULED, JobState.QUEUED})

ENDS: Final[Mapping[str, JobState]] = {
    SUCCESS_STATE: JobState.SUCCEEDED,
    FAILURE_STATE: JobState.FAILED,
    REVOKED_STATE: JobState.CANCELLED,
}
"""What a job comes to whose last task ended in a state of Celery's."""
