"""A task with the function that does it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from twinlane_sdk.job import Job
from twinlane_sdk.task_spec import Args, Result, TaskSpec

A = TypeVar("A", bound=Args)
R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class Implementation(Generic[A, R]):
    """Binds a function to its spec.

    The function gets validated arguments and its job. It raises RetryableError or RejectedError to
    say what should happen next.
    """

    spec: TaskSpec[A, R]
    function: Callable[[A, Job], R]
