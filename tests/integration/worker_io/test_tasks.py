import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol

import obstore
import pytest
from obstore.store import LocalStore

from contracts.storage import artifact_key
from twinlane_sdk.allow_lists import HostAllowList, RecipientAllowList
from twinlane_sdk.errors import JobCancelledError, RejectedError, RetryableError
from twinlane_sdk.job import Job
from twinlane_tasks.http import FAN_OUT, FETCH_URL, FanOutArgs, FetchUrlArgs
from twinlane_tasks.reports import SEND_REPORT, RenderReportResult, SendReportArgs
from twinlane_tasks.upkeep import PURGE_FILES, PurgeFilesArgs
from worker_io.fetching.fetcher import Fetcher, FetchLimits
from worker_io.mail.smtp import MailServer
from worker_io.tasks import LEASE, RECEIPT, IoTasks
from worker_runtime.job import RunningJob

RENDERED = RenderReportResult(
    subject="Vendas mensal: janeiro",
    month="2025-01",
    rows=3,
    html="report.html",
    text="report.txt",
    chart="chart.png",
    chart_alt="Receita",
    table="vendas.csv",
)
LOCAL = HostAllowList.parse("127.0.0.1")
ARGS = SendReportArgs(email="ana@empresa.com")

JobOf = Callable[..., RunningJob]


class Inbox(Protocol):
    port: int
    mails: list[EmailMessage]
    reply_to_mail: str
    on_mail: Callable[[], object]


class Httpbin(Protocol):
    url: str


@pytest.fixture
def storage(tmp_path: Path) -> LocalStore:
    storage = LocalStore(tmp_path, automatic_cleanup=True)
    for name in ("report.html", "report.txt", "chart.png", "vendas.csv"):
        obstore.put(storage, artifact_key("job-42", name), f"the {name}".encode())
    return storage


@pytest.fixture
def tasks(inbox: Inbox, storage: LocalStore) -> IoTasks:
    return IoTasks(
        fetcher=Fetcher(LOCAL, FetchLimits(), private_hosts=LOCAL),
        numbers=random.SystemRandom(),
        storage=storage,
        mail_server=MailServer("127.0.0.1", inbox.port, timeout_seconds=5),
        mail_from="Twinlane <no-reply@empresa.com>",
        allowed_recipients=RecipientAllowList.parse("@empresa.com"),
        upload_ttl=timedelta(days=7),
        artifact_ttl=timedelta(seconds=-60),
    )


def send_report_job(job_of: JobOf) -> RunningJob:
    return job_of(SEND_REPORT, RENDERED.model_dump(mode="json"))


def test_report_is_mailed_with_what_was_rendered(
    tasks: IoTasks, inbox: Inbox, job_of: JobOf
) -> None:
    result = tasks.send_report(ARGS, send_report_job(job_of))
    (mail,) = inbox.mails
    assert mail["Subject"] == result.subject == "Vendas mensal: janeiro"
    assert mail["Message-ID"] == result.message_id == "<job-42@empresa.com>"
    assert result.attachments == ["vendas.csv"]
    body = mail.get_body(("plain",))
    assert isinstance(body, EmailMessage)
    assert body.get_content().strip() == "the report.txt"


def test_report_that_runs_twice_is_mailed_once(tasks: IoTasks, inbox: Inbox, job_of: JobOf) -> None:
    first = tasks.send_report(ARGS, send_report_job(job_of))
    assert tasks.send_report(ARGS, send_report_job(job_of)) == first
    assert len(inbox.mails) == 1


def test_report_that_failed_is_mailed_when_it_runs_again(
    tasks: IoTasks, inbox: Inbox, job_of: JobOf
) -> None:
    inbox.reply_to_mail = "451 later"
    with pytest.raises(RetryableError):
        tasks.send_report(ARGS, send_report_job(job_of))
    inbox.reply_to_mail = "250 OK"
    tasks.send_report(ARGS, send_report_job(job_of))
    assert len(inbox.mails) == 1


def test_two_deliveries_at_the_same_time_send_one_mail(
    tasks: IoTasks, inbox: Inbox, job_of: JobOf
) -> None:
    def deliver_again() -> None:
        with pytest.raises(RetryableError, match="another delivery of this job is at it"):
            tasks.send_report(ARGS, send_report_job(job_of))

    inbox.on_mail = deliver_again
    result = tasks.send_report(ARGS, send_report_job(job_of))
    assert len(inbox.mails) == 1
    assert tasks.send_report(ARGS, send_report_job(job_of)) == result
    assert len(inbox.mails) == 1


def test_many_deliveries_at_once_send_one_mail(tasks: IoTasks, inbox: Inbox, job_of: JobOf) -> None:
    def deliver(job: Job) -> str | None:
        try:
            return tasks.send_report(ARGS, job).message_id
        except RetryableError:
            return None

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(deliver, [send_report_job(job_of) for _ in range(8)]))
    assert ids - {None} == {"<job-42@empresa.com>"}
    assert len(inbox.mails) == 1


def test_lease_of_a_worker_that_died_delays_the_mail_and_no_more(
    tasks: IoTasks, inbox: Inbox, job_of: JobOf, storage: LocalStore
) -> None:
    lease = artifact_key("job-42", f"{LEASE}/1")
    obstore.put(storage, lease, b"{}")
    with pytest.raises(RetryableError, match="another delivery"):
        tasks.send_report(ARGS, send_report_job(job_of))
    assert inbox.mails == []
    assert storage.prefix is not None
    long_ago = time.time() - 76
    os.utime(Path(storage.prefix) / lease, (long_ago, long_ago))
    result = tasks.send_report(ARGS, send_report_job(job_of))
    assert [mail["Message-ID"] for mail in inbox.mails] == [result.message_id]


def test_waiting_for_a_dead_workers_lease_does_not_use_up_all_attempts() -> None:
    waits = [
        SEND_REPORT.retry.backoff_seconds(attempt, jitter=0.999)
        for attempt in range(1, SEND_REPORT.retry.max_attempts)
    ]
    assert sum(waits) > MailServer("", 0, 0).send_timeout_seconds + 15


def test_lease_is_not_among_the_artifacts(
    tasks: IoTasks, inbox: Inbox, job_of: JobOf, storage: LocalStore
) -> None:
    folder = "artifacts/job-42/"
    seen: list[str] = []
    inbox.on_mail = lambda: seen.extend(
        file["path"] for file in obstore.list_with_delimiter(storage, folder)["objects"]
    )
    before = {file["path"] for file in obstore.list_with_delimiter(storage, folder)["objects"]}
    tasks.send_report(ARGS, send_report_job(job_of))
    assert set(seen) == before
    assert not list(obstore.list(storage, f"{folder}claims/"))


def test_cancelled_report_is_not_mailed(tasks: IoTasks, inbox: Inbox, job_of: JobOf) -> None:
    job = send_report_job(job_of)
    job.cancellation.cancel()
    with pytest.raises(JobCancelledError):
        tasks.send_report(ARGS, job)
    assert inbox.mails == []


def test_report_cancelled_while_it_is_sent_is_mailed(
    tasks: IoTasks, inbox: Inbox, job_of: JobOf
) -> None:
    job = send_report_job(job_of)
    inbox.on_mail = job.cancellation.cancel
    assert tasks.send_report(ARGS, job).message_id == "<job-42@empresa.com>"
    assert len(inbox.mails) == 1


def test_mail_that_is_out_is_a_success_even_without_a_receipt(
    tasks: IoTasks,
    inbox: Inbox,
    job_of: JobOf,
    storage: LocalStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert storage.prefix is not None
    in_the_way = Path(storage.prefix) / artifact_key("job-42", RECEIPT)
    inbox.on_mail = lambda: (in_the_way / "x").mkdir(parents=True)
    assert tasks.send_report(ARGS, send_report_job(job_of)).message_id == "<job-42@empresa.com>"
    assert "its receipt not written" in caplog.text


def test_recipient_is_checked_again_at_run_time(
    tasks: IoTasks, inbox: Inbox, job_of: JobOf
) -> None:
    with pytest.raises(RejectedError, match=r"ana@evil\.net.* not on the list"):
        tasks.send_report(SendReportArgs(email="ana@evil.net"), send_report_job(job_of))
    assert inbox.mails == []


def test_report_whose_artifacts_are_gone_is_rejected(
    tasks: IoTasks, storage: LocalStore, job_of: JobOf
) -> None:
    obstore.delete(storage, artifact_key("job-42", "chart.png"))
    with pytest.raises(RejectedError, match=r"the report's chart\.png is gone"):
        tasks.send_report(ARGS, send_report_job(job_of))


def test_fetch_url_gives_the_answer(tasks: IoTasks, httpbin: Httpbin, job_of: JobOf) -> None:
    result = tasks.fetch_url(FetchUrlArgs(url=f"{httpbin.url}/bytes/10"), job_of(FETCH_URL))
    assert (result.status, result.size_bytes) == (200, 10)


def test_fan_out_gives_the_answers_together(
    tasks: IoTasks, httpbin: Httpbin, job_of: JobOf
) -> None:
    urls = [f"{httpbin.url}/bytes/{size}" for size in range(5)]
    result = tasks.fan_out(FanOutArgs(urls=urls), job_of(FAN_OUT))
    assert [response.size_bytes for response in result.responses] == [0, 1, 2, 3, 4]
    assert result.elapsed_seconds > 0


def test_purge_says_what_had_expired(tasks: IoTasks, storage: LocalStore, job_of: JobOf) -> None:
    obstore.put(storage, "uploads/content/x", b"kept")
    result = tasks.purge_files(PurgeFilesArgs(), job_of(PURGE_FILES))
    assert (result.uploads, result.artifacts) == (0, 4)
    assert result.freed_bytes == sum(len(f"the {n}") for n in ("report.html", "report.txt")) + sum(
        len(f"the {n}") for n in ("chart.png", "vendas.csv")
    )


def test_cancelled_purge_stops_before_it_deletes_more(
    tasks: IoTasks, storage: LocalStore, job_of: JobOf
) -> None:
    for number in range(1_100):
        obstore.put(storage, f"artifacts/old/{number}", b"x")
    job = job_of(PURGE_FILES)
    job.cancellation.cancel()
    with pytest.raises(JobCancelledError):
        tasks.purge_files(PurgeFilesArgs(), job)
    assert len(obstore.list(storage, "artifacts").collect()) > 0


def test_cancelled_fan_out_ends_as_such(tasks: IoTasks, httpbin: Httpbin, job_of: JobOf) -> None:
    job = job_of(FAN_OUT)
    job.cancellation.cancel()
    with pytest.raises(JobCancelledError):
        tasks.fan_out(FanOutArgs(urls=[f"{httpbin.url}/delay/5"]), job)
