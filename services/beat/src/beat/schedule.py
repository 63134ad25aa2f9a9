"""What is submitted when. Times are UTC."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from celery.beat import BeatLazyFunc
from celery.schedules import crontab

from contracts.tasks import PURGE_FILES, SEND_REPORT


def create_schedule(recipients: list[str]) -> dict[str, dict[str, Any]]:
    """Return Celery's schedule: the hourly purge, and last month's report for each recipient."""
    schedule: dict[str, dict[str, Any]] = {
        "purge-files": {"task": PURGE_FILES.name, "schedule": crontab(minute="0")}
    }
    for recipient in recipients:
        schedule[f"monthly-report-{recipient}"] = {
            "task": SEND_REPORT.name,
            "schedule": crontab(day_of_month="1", hour="6", minute="0"),
            "kwargs": {
                "email": recipient,
                "report_type": "vendas_mensal",
                "month": BeatLazyFunc(last_month),  # known only when the tick comes
            },
        }
    return schedule


def last_month() -> str:
    """Return the month before the present one, as YYYY-MM."""
    return month_before(datetime.now(UTC).date())


def month_before(day: date) -> str:
    """Return the month before a day's, as YYYY-MM."""
    return (day.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
