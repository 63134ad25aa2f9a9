"""Sales reports: rendered on the cpu lane, mailed from the io lane, under one job id."""

from datetime import timedelta
from typing import Final, Literal

from pydantic import EmailStr, Field

from twinlane_sdk.fields import Month
from twinlane_sdk.lanes import Lane
from twinlane_sdk.retry_policy import RetryPolicy
from twinlane_sdk.task_spec import Args, Result, TaskSpec
from twinlane_tasks.sales import ALL_REGIONS, Region

ReportType = Literal["vendas", "vendas_mensal"]


class RenderReportArgs(Args):
    """Which report. Without a month: the newest that is stored."""

    report_type: ReportType = "vendas_mensal"
    region: Region = ALL_REGIONS
    month: Month | None = None


class RenderReportResult(Result):
    """The subject of the report and the artifacts it consists of."""

    subject: str
    month: str | None
    rows: int
    html: str
    text: str
    chart: str
    chart_alt: str
    table: str


class SendReportArgs(RenderReportArgs):
    """A report and who gets it."""

    email: EmailStr = Field(max_length=254, examples=["analista@empresa.com"])


class SendReportResult(Result):
    """Proof of the mail that was handed to the mail server."""

    email: str
    subject: str
    message_id: str
    attachments: list[str]


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

TASKS: Final = (RENDER_REPORT, SEND_REPORT)
