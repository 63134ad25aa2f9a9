"""Draws, which show what retries look like."""

from datetime import timedelta
from typing import Final

from twinlane_sdk.lanes import Lane
from twinlane_sdk.retry_policy import RetryPolicy
from twinlane_sdk.task_spec import Args, Result, TaskSpec


class DrawArgs(Args):
    """Nothing: a draw has no arguments."""


class DrawResult(Result):
    """The number drawn, 7 to 10: a lower one is a retry."""

    number: int


DRAW_NUMBER: Final = TaskSpec(
    name="io.draw_number",
    lane=Lane.IO,
    args=DrawArgs,
    result=DrawResult,
    summary="Draw 1 to 10; six or less is a retry, to show what retries look like.",
    deadline=timedelta(minutes=1),
    retry=RetryPolicy(max_attempts=16, base_seconds=1, max_seconds=8),
)

TASKS: Final = (DRAW_NUMBER,)
