"""What a running task may know of its job, and say about it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from twinlane_sdk.task_spec import Result, TaskSpec

R = TypeVar("R", bound=Result)


class Cancellation(Protocol):
    """Whether a running job is still wanted."""

    def stop_if_cancelled(self) -> None:
        """Return if the job is still wanted.

        Raises:
            JobCancelledError: it is not.

        """

    def calling(self, stop: Callable[[], object]) -> AbstractContextManager[None]:
        """Have a cancel call `stop` while inside; at once if it has come already.

        For what a task waits in: `stop` runs in another thread and must end the wait.
        """


class Job(Protocol):
    """The job that a task's function works on."""

    @property
    def id(self) -> str:
        """The job's id."""

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""

    @property
    def deadline_seconds(self) -> float:
        """How long the attempt may take."""

    @property
    def cancellation(self) -> Cancellation:
        """Whether the job is still wanted."""

    def report(
        self, current: int, total: int | None, unit: str, message: str | None = None
    ) -> None:
        """Publish progress in real units; calls closer than a quarter of a second are dropped.

        Raises:
            JobCancelledError: nobody wants the job any more.

        """

    def result_of(self, spec: TaskSpec[Any, R]) -> R:
        """Return what the stage before left behind."""
