"""What is submitted when. Times are UTC."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from celery.beat import BeatLazyFunc
from celery.schedules import crontab

from twinlane_tasks.reports import SEND_REPORT
from twinlane_tasks.upkeep import PURGE_FILES


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


def newest_tick(schedule: crontab, now: datetime) -> datetime:
    """Return the newest minute up to now that a schedule matches, however late it is submitted."""
    minute = now.replace(second=0, microsecond=0)
    while not _matches(schedule, minute):
        minute -= timedelta(minutes=1)
    return minute


def _matches(schedule: Any, minute: datetime) -> bool:  # noqa: ANN401 - a crontab, unknown to stubs
    return bool(
        minute.minute in schedule.minute
        and minute.hour in schedule.hour
        and minute.day in schedule.day_of_month
        and minute.month in schedule.month_of_year
        and minute.isoweekday() % 7 in schedule.day_of_week  # 0 is Sunday
    )


def last_month() -> str:
    """Return the month before the present one, as YYYY-MM."""
    return month_before(datetime.now(UTC).date())


def month_before(day: date) -> str:
    """Return the month before a day's, as YYYY-MM."""
    return (day.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
