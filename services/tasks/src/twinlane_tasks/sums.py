"""Sums, slowly: what a long computation looks like."""

from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from twinlane_sdk.lanes import Lane
from twinlane_sdk.task_spec import Args, Result, TaskSpec

MAX_SUM_DIGITS = 4_000  # Python refuses to read or print integers above 4,300 digits


_SUM_BOUND = 10**MAX_SUM_DIGITS


def _bounded_integer(value: int) -> int:
    if abs(value) >= _SUM_BOUND:
        raise ValueError(f"must have at most {MAX_SUM_DIGITS:,} digits")
    return value


Integer = Annotated[int, AfterValidator(_bounded_integer)]


class SumArgs(Args):
    """Two integers of any size up to 4,000 digits."""

    a: Integer = Field(examples=[2])
    b: Integer = Field(examples=[3])


class SumResult(Result):
    """Their exact sum."""

    total: int


SUM_NUMBERS: Final = TaskSpec(
    name="cpu.sum_numbers",
    lane=Lane.CPU,
    args=SumArgs,
    result=SumResult,
    summary="Add two integers of any size, after a simulated processing time.",
    deadline=timedelta(minutes=5),
)

TASKS: Final = (SUM_NUMBERS,)
