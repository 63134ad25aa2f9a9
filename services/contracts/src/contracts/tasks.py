"""The catalogue: one TaskSpec per task ties its name, lane, arguments, result and policies."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from contracts.lanes import Lane
from contracts.schemas import (
    AggregateSalesArgs,
    AggregateSalesResult,
    Args,
    DrawArgs,
    DrawResult,
    FanOutArgs,
    FanOutResult,
    FetchUrlArgs,
    FetchUrlResult,
    ProcessCsvArgs,
    ProcessCsvResult,
    PurgeFilesArgs,
    PurgeFilesResult,
    RenderReportArgs,
    RenderReportResult,
    Result,
    SendReportArgs,
    SendReportResult,
    SumArgs,
    SumResult,
)

A = TypeVar("A", bound=Args)
R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with jitter: base, base·2, base·4 … seconds, never above the maximum."""

    max_attempts: int
    base_seconds: float = 1.0
    max_seconds: float = 60.0

    def backoff_seconds(self, attempt: int, jitter: float) -> int:
        """Return the wait after a failed attempt, in whole seconds from 1 up.

        The broker's delayed delivery knows whole seconds only. `attempt` counts from 1; `jitter`,
        in [0, 1), takes away up to half of the wait, so that failures do not return in step.
        """
        ceiling = min(self.max_seconds, self.base_seconds * 2.0 ** (attempt - 1))
        return max(1, round(ceiling * (1 - jitter / 2)))


@dataclass(frozen=True, slots=True)
class TaskSpec(Generic[A, R]):
    """A kind of work: all that its publisher and its worker must agree on."""

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


SUM_NUMBERS: Final = TaskSpec(
    name="cpu.sum_numbers",
    lane=Lane.CPU,
    args=SumArgs,
    result=SumResult,
    summary="Add two integers of any size, after a simulated processing time.",
    deadline=timedelta(minutes=5),
)
PROCESS_CSV: Final = TaskSpec(
    name="cpu.process_csv",
    lane=Lane.CPU,
    args=ProcessCsvArgs,
    result=ProcessCsvResult,
    summary="Profile a CSV, quarantine its bad lines, convert it to Parquet, import its sales.",
    deadline=timedelta(minutes=20),
)
AGGREGATE_SALES: Final = TaskSpec(
    name="cpu.aggregate_sales",
    lane=Lane.CPU,
    args=AggregateSalesArgs,
    result=AggregateSalesResult,
    summary="Sum up the sales of a region and month, beside the month before.",
    deadline=timedelta(minutes=5),
)
RENDER_REPORT: Final = TaskSpec(
    name="cpu.render_report",
    lane=Lane.CPU,
    args=RenderReportArgs,
    result=RenderReportResult,
    summary="Render a sales report as HTML, text, chart and CSV.",
    deadline=timedelta(minutes=5),
)
SEND_REPORT: Final = TaskSpec(
    name="io.send_report",
    lane=Lane.IO,
    args=SendReportArgs,
    result=SendReportResult,
    summary="Render a sales report on the cpu lane and mail it from the io lane.",
    deadline=timedelta(minutes=2),
    retry=RetryPolicy(max_attempts=8, base_seconds=2, max_seconds=300),
    after=RENDER_REPORT,
)
FETCH_URL: Final = TaskSpec(
    name="io.fetch_url",
    lane=Lane.IO,
    args=FetchUrlArgs,
    result=FetchUrlResult,
    summary="GET an address on an allowed host.",
    deadline=timedelta(minutes=1),
)
FAN_OUT: Final = TaskSpec(
    name="io.fan_out",
    lane=Lane.IO,
    args=FanOutArgs,
    result=FanOutResult,
    summary="GET many addresses at the same time.",
    deadline=timedelta(minutes=5),
)
DRAW_NUMBER: Final = TaskSpec(
    name="io.draw_number",
    lane=Lane.IO,
    args=DrawArgs,
    result=DrawResult,
    summary="Draw 1 to 10; six or less is a retry, to show what retries look like.",
    deadline=timedelta(minutes=1),
    retry=RetryPolicy(max_attempts=16, base_seconds=1, max_seconds=8),
)
PURGE_FILES: Final = TaskSpec(
    name="io.purge_files",
    lane=Lane.IO,
    args=PurgeFilesArgs,
    result=PurgeFilesResult,
    summary="Delete uploads and artifacts whose lifetime is over.",
    deadline=timedelta(minutes=10),
)

CATALOGUE: Final[dict[str, TaskSpec[Any, Any]]] = {
    spec.name: spec
    for spec in (
        SUM_NUMBERS,
        PROCESS_CSV,
        AGGREGATE_SALES,
        RENDER_REPORT,
        SEND_REPORT,
        FETCH_URL,
        FAN_OUT,
        DRAW_NUMBER,
        PURGE_FILES,
    )
}


def specs_of(lane: Lane) -> set[str]:
    """Return the names of the tasks that a lane's workers must implement."""
    return {spec.name for spec in CATALOGUE.values() if spec.lane == lane}
