import random
from collections.abc import Callable
from datetime import timedelta
from email.message import EmailMessage
from typing import Protocol

import obstore
import pytest
from obstore.store import MemoryStore

from contracts.allow_lists import HostAllowList, RecipientAllowList
from contracts.errors import RejectedError, RetryableError
from contracts.implementation import Job
from contracts.schemas import (
    FanOutArgs,
    FetchUrlArgs,
    PurgeFilesArgs,
    RenderReportResult,
    SendReportArgs,
)
from contracts.storage import artifact_key
from contracts.tasks import FAN_OUT, FETCH_URL, PURGE_FILES, SEND_REPORT
from worker_io.fetching import Fetcher, FetchLimits
from worker_io.mail import MailServer
from worker_io.tasks import IoTasks

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

JobOf = Callable[..., Job]


class Inbox(Protocol):
    port: int
    mails: list[EmailMessage]
    reply_to_mail: str


class Httpbin(Protocol):
    url: str


@pytest.fixture
def storage() -> MemoryStore:
    storage = MemoryStore()
    for name in ("report.html", "report.txt", "chart.png", "vendas.csv"):
        obstore.put(storage, artifact_key("job-42", name), f"the {name}".encode())
    return storage


@pytest.fixture
def tasks(inbox: Inbox, storage: MemoryStore) -> IoTasks:
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


def send_report_job(job_of: JobOf) -> Job:
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


def test_recipient_is_checked_again_at_run_time(
    tasks: IoTasks, inbox: Inbox, job_of: JobOf
) -> None:
    with pytest.raises(RejectedError, match=r"ana@evil\.net.* not on the list"):
        tasks.send_report(SendReportArgs(email="ana@evil.net"), send_report_job(job_of))
    assert inbox.mails == []


def test_report_whose_artifacts_are_gone_is_rejected(
    tasks: IoTasks, storage: MemoryStore, job_of: JobOf
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


def test_purge_says_what_had_expired(tasks: IoTasks, storage: MemoryStore, job_of: JobOf) -> None:
    obstore.put(storage, "uploads/content/x", b"kept")
    result = tasks.purge_files(PurgeFilesArgs(), job_of(PURGE_FILES))
    assert (result.uploads, result.artifacts) == (0, 4)
    assert result.freed_bytes == sum(len(f"the {n}") for n in ("report.html", "report.txt")) + sum(
        len(f"the {n}") for n in ("chart.png", "vendas.csv")
    )
