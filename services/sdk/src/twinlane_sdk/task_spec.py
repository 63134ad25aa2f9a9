"""What a task is to those who submit it and to those who run it."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from twinlane_sdk.lanes import Lane
from twinlane_sdk.retry_policy import RetryPolicy


class Args(BaseModel):
    """Arguments of a task: strict, so that a wrong type is an error and never a guess.

    Messages are small, frozen and additive: a file is referred to by its id, a new field has a
    default, and workers are deployed before the API that sends it. Decimals travel as strings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Result(BaseModel):
    """What a task leaves behind, as JSON."""

    model_config = ConfigDict(frozen=True)


A = TypeVar("A", bound=Args)
R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class TaskSpec(Generic[A, R]):
    """A kind of work: all that its publisher and its worker must agree on.

    `name` is `<lane>.<verb>_<noun>` and never changes. `deadline` bounds one attempt.
    """

    name: str
    lane: Lane
    args: type[A]
    result: type[R]
    summary: str
    deadline: timedelta
    retry: RetryPolicy = field(default=RetryPolicy(max_attempts=5))
    after: "TaskSpec[Any, Any] | None" = None
    """A stage that runs first, with those of the arguments that it knows."""

    @property
    def stages(self) -> "tuple[TaskSpec[Any, Any], ...]":
        """The tasks that make up a job of this kind, first to last."""
        return (*(self.after.stages if self.after else ()), self)

    def known_arguments(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return those of a job's arguments that this task takes: a stage need not take all."""
        known = self.args.model_fields
        return {name: value for name, value in args.items() if name in known}
