import os
import signal
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from celery.schedules import crontab
from pydantic import ValidationError

from beat.schedule import create_schedule, month_before, newest_tick
from beat.scheduler import JobScheduler
from beat.submission import tick_id
from contracts.keys import confirmed_key
from contracts.states import JobState
from integration.broker import Broker, headers_of
from integration.jobs import Jobs
from integration.place import Place
from integration.proxy import Proxy
from integration.services import run_beat
from servers import eventually
from twinlane_tasks.reports import SEND_REPORT
from twinlane_tasks.upkeep import PURGE_FILES

TICK = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)


def entry(recipient: str) -> str:
    return f"monthly-report-{recipient}"


def test_scheduled_job_has_a_record_and_a_message(jobs: Jobs, broker: Broker) -> None:
    job_id = tick_id("purge-files", TICK)
    assert jobs.submitter.submit(PURGE_FILES.name, {}, job_id)
    assert jobs.record(job_id).task == PURGE_FILES.name
    assert jobs.status(job_id).state is JobState.QUEUED
    message = broker.take("jobs.io")
    assert message is not None
    assert headers_of(message)["id"] == job_id


def test_second_beat_submits_nothing_at_the_same_tick(jobs: Jobs, broker: Broker) -> None:
    for first in (True, False):
        job_id = tick_id("purge-files", TICK)
        assert jobs.submitter.submit(PURGE_FILES.name, {}, job_id) is first
    assert broker.ready("jobs.io") == 1


def test_each_tick_and_each_entry_has_a_job_of_its_own() -> None:
    minute = timedelta(minutes=1)
    ids = {
        tick_id(name, tick)
        for name in ("purge-files", entry("a@b.c"))
        for tick in (TICK, TICK + minute)
    }
    assert len(ids) == 4
    assert tick_id("purge-files", TICK + minute / 2) == tick_id("purge-files", TICK)


def test_job_whose_beat_was_killed_before_it_published_is_published_by_the_next(
    jobs: Jobs, broker: Broker
) -> None:
    job_id = tick_id("purge-files", TICK)
    assert jobs.submitter.submit(PURGE_FILES.name, {}, job_id)
    broker.take("jobs.io")
    jobs.redis.delete(confirmed_key(job_id))
    assert jobs.submitter.submit(PURGE_FILES.name, {}, job_id)
    assert broker.ready("jobs.io") == 1
    assert jobs.ids() == {job_id}


@pytest.mark.parametrize(
    ("now", "tick"),
    [
        ("2026-03-01T06:00:00", "2026-03-01T06:00"),
        ("2026-03-01T06:01:30", "2026-03-01T06:00"),
        ("2026-03-31T23:59:59", "2026-03-01T06:00"),
        ("2026-03-01T05:59:59", "2026-02-01T06:00"),
    ],
)
def test_tick_is_that_of_the_schedule_however_late_it_is_submitted(now: str, tick: str) -> None:
    monthly = create_schedule(["ana@empresa.com"])[entry("ana@empresa.com")]["schedule"]
    assert newest_tick(monthly, datetime.fromisoformat(now)) == datetime.fromisoformat(tick)


def test_arguments_that_a_task_does_not_take_leave_no_record(jobs: Jobs) -> None:
    with pytest.raises(ValidationError, match="email"):
        jobs.submitter.submit(SEND_REPORT.name, {"email": "nobody"}, "job-42")
    assert jobs.ids() == set()


def lazy_scheduler(jobs: Jobs, state: Path) -> JobScheduler:
    """Return a scheduler that does what it is called for, and nothing by itself."""
    scheduler = JobScheduler(
        jobs.celery,
        submitter=jobs.submitter,
        heartbeat_file=None,
        schedule_filename=str(state),
        lazy=True,
    )
    scheduler.setup_schedule()
    return scheduler


def test_monthly_report_is_the_chain_of_last_month(
    jobs: Jobs, broker: Broker, tmp_path: Path
) -> None:
    jobs.celery.conf.beat_schedule = create_schedule(["ana@empresa.com"])
    scheduler = lazy_scheduler(jobs, tmp_path / "state")
    scheduler.apply_async(scheduler.schedule[entry("ana@empresa.com")], advance=False)
    scheduler.close()
    message = broker.take("jobs.cpu")
    assert message is not None
    expected = {"region": "all", "report_type": "vendas_mensal", "month": last_month()}
    args, kwargs, embedded = message.payload
    assert (args, kwargs) == ([], expected)
    (sending,) = embedded["chain"]
    assert sending["task"] == SEND_REPORT.name
    assert sending["kwargs"] == expected | {"email": "ana@empresa.com"}
    (job_id,) = jobs.ids()
    assert sending["options"]["task_id"] == headers_of(message)["root_id"] == job_id


def test_no_result_backend_is_needed_to_submit(jobs: Jobs, broker: Broker, tmp_path: Path) -> None:
    """The workers' own is not installed beside beat."""
    jobs.celery.conf.update(result_backend="not_installed:Backend+redis://127.0.0.1:1")
    jobs.celery.conf.beat_schedule = create_schedule(["ana@empresa.com"])
    scheduler = lazy_scheduler(jobs, tmp_path / "state")
    for due in list(scheduler.schedule.values()):
        scheduler.apply_async(due, advance=False)
    scheduler.close()
    assert (broker.ready("jobs.io"), broker.ready("jobs.cpu")) == (1, 1)


@pytest.mark.parametrize(
    ("day", "month"),
    [
        (date(2026, 3, 1), "2026-02"),
        (date(2026, 3, 31), "2026-02"),
        (date(2026, 1, 1), "2025-12"),
        (date(2024, 3, 1), "2024-02"),
    ],
)
def test_month_before_is_right_at_the_ends_of_months_and_years(day: date, month: str) -> None:
    assert month_before(day) == month


def test_schedule_is_an_hourly_purge_and_a_report_for_each_recipient() -> None:
    schedule = create_schedule(["ana@empresa.com", "chefe@empresa.com"])
    assert schedule["purge-files"]["schedule"] == crontab(minute="0")
    assert set(schedule) == {"purge-files", entry("ana@empresa.com"), entry("chefe@empresa.com")}
    monthly = schedule[entry("ana@empresa.com")]["schedule"]
    assert monthly == crontab(minute="0", hour="6", day_of_month="1")


def test_no_report_is_scheduled_without_recipients() -> None:
    assert set(create_schedule([])) == {"purge-files"}


def test_beat_starts_touches_its_heartbeat_file_and_stops_on_sigterm(place: Place) -> None:
    heartbeat = place.folder / "heartbeat-beat"
    with run_beat(place) as beat:
        before = heartbeat.stat().st_mtime_ns
        assert eventually(lambda: heartbeat.stat().st_mtime_ns > before, 60)
        beat.terminate()
        assert beat.exit_code() == 0


@pytest.fixture
def missed_tick(place: Place, jobs: Jobs) -> None:
    """Beat's state file says that the last purge was two hours ago."""
    jobs.celery.conf.beat_schedule = create_schedule([])
    scheduler = lazy_scheduler(jobs, place.folder / "state")
    scheduler.schedule["purge-files"].last_run_at = datetime.now(UTC) - timedelta(hours=2)
    scheduler.sync()
    scheduler.close()


def test_beat_that_is_stopped_while_it_submits_leaves_no_job_that_never_runs(
    place: Place, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> NoReturn:  # as Celery's handler of SIGTERM does
        raise SystemExit

    def stop_once_recorded() -> None:
        eventually(lambda: bool(jobs.ids()))
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, stop)
    with Proxy(place.broker_url) as silent:
        silent.pause()
        monkeypatch.setitem(jobs.celery.conf, "broker_url", silent.url)
        supervisor = threading.Thread(target=stop_once_recorded)
        supervisor.start()
        with pytest.raises(SystemExit):
            jobs.submitter.submit(PURGE_FILES.name, {}, "job-42")
        supervisor.join()
    signal.signal(signal.SIGUSR1, before)
    assert jobs.ids() == set()


@pytest.mark.usefixtures("missed_tick")
def test_beat_submits_a_tick_that_it_has_missed(place: Place, jobs: Jobs, broker: Broker) -> None:
    broker.declare()
    with run_beat(place):
        assert eventually(lambda: broker.ready("jobs.io") == 1, 30)
        # Stopped before it knows that the broker has the job, it would withdraw the record.
        assert eventually(lambda: all(map(jobs.is_confirmed, jobs.ids())))
    assert len(jobs.ids()) == 1


@pytest.mark.usefixtures("missed_tick")
def test_tick_during_which_beat_is_stopped_is_submitted_after_its_restart(
    place: Place, jobs: Jobs, broker: Broker
) -> None:
    broker.declare()
    with Proxy(place.broker_url) as silent:
        silent.pause()
        with run_beat(place, broker_url=silent.url) as beat:
            assert eventually(lambda: bool(jobs.ids()), 30)
            beat.terminate()
            assert beat.exit_code() == 0
    assert jobs.ids() == set()
    with run_beat(place):
        assert eventually(lambda: broker.ready("jobs.io") == 1, 30)


@pytest.mark.usefixtures("missed_tick")
def test_beat_that_waits_for_redis_stops_on_sigterm(place: Place) -> None:
    with run_beat(place, result_url="redis://127.0.0.1:1") as beat:
        assert eventually(lambda: "does not take a record" in beat.log.read_text(), 30)
        beat.terminate()
        assert beat.exit_code() == 0


def test_beat_starts_before_the_servers_that_it_needs(place: Place) -> None:
    away = {"broker_url": "amqp://user:password@127.0.0.1:1//", "result_url": "redis://127.0.0.1:1"}
    with run_beat(place, **away) as beat:
        beat.terminate()
        assert beat.exit_code() == 0


def last_month() -> str:
    return month_before(datetime.now(UTC).date())
