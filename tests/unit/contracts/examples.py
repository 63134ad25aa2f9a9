"""Records and attempts, for the tests of what is derived from them."""

from datetime import UTC, datetime, timedelta

from contracts.records import Attempt, AttemptError, JobRecord, new_record
from twinlane_tasks.reports import SEND_REPORT, SendReportArgs
from twinlane_tasks.sums import SUM_NUMBERS, SumArgs

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def sum_record(run_at: datetime | None = None) -> JobRecord:
    return new_record(
        SUM_NUMBERS, SumArgs(a=2, b=3), job_id="job-42", ttl_seconds=60, run_at=run_at
    )


def report_record() -> JobRecord:
    args = SendReportArgs(email="ana@empresa.com")
    return new_record(SEND_REPORT, args, job_id="job-42", ttl_seconds=60)


def attempt(number: int = 1, error: str | None = None, backoff: int | None = None) -> Attempt:
    return Attempt(
        number=number,
        task=SUM_NUMBERS.name,
        worker="worker-cpu-1@here",
        started_at=NOW - timedelta(seconds=1),
        ended_at=NOW,
        error=AttemptError(type="RetryableError", message=error) if error else None,
        backoff_seconds=backoff,
    )
