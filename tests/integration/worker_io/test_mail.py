import socket
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Protocol

import pytest

from contracts.errors import RejectedError, RetryableError
from worker_io.mail import MailServer, Report, build_mail, mail_server_ready

REPORT = Report("Olá", "text", "<p>html</p>", b"png", "chart", b"a,b\n", "table.csv")
MAIL = build_mail(REPORT, "job-42", "no-reply@empresa.com", "ana@empresa.com", datetime.now(UTC))


class Inbox(Protocol):
    port: int
    mails: list[EmailMessage]
    reply_to_recipient: str
    reply_to_mail: str
    hangs_up_after_mail: bool


def server(port: int) -> MailServer:
    return MailServer("127.0.0.1", port, timeout_seconds=0.5)


def send_mail(server: MailServer, mail: EmailMessage) -> None:
    with mail_server_ready(server) as hand_over:
        hand_over(mail)


def test_mail_arrives_as_it_was_built(inbox: Inbox) -> None:
    send_mail(server(inbox.port), MAIL)
    (mail,) = inbox.mails
    assert mail["Message-ID"] == "<job-42@empresa.com>"
    assert mail["Subject"] == "Olá"
    assert [part.get_content_type() for part in mail.walk()] == [
        part.get_content_type() for part in MAIL.walk()
    ]


def test_no_server_is_retryable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with pytest.raises(RetryableError, match=f"mail server 127.0.0.1:{port}: .*refused"):
        send_mail(server(port), MAIL)


def test_silent_server_is_retryable_after_the_timeout() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(RetryableError, match="timed out"),
    ):
        send_mail(server(silent.getsockname()[1]), MAIL)


def test_recipient_refused_for_good_is_rejected(inbox: Inbox) -> None:
    inbox.reply_to_recipient = "550 no such user"
    with pytest.raises(RejectedError, match=r"ana@empresa\.com was refused .* 550 no such user"):
        send_mail(server(inbox.port), MAIL)


def test_recipient_refused_for_now_is_retryable(inbox: Inbox) -> None:
    inbox.reply_to_recipient = "450 greylisted"
    with pytest.raises(RetryableError, match="450 greylisted"):
        send_mail(server(inbox.port), MAIL)


def test_content_refused_for_good_is_rejected(inbox: Inbox) -> None:
    inbox.reply_to_mail = "552 too large"
    with pytest.raises(RejectedError, match="552 too large"):
        send_mail(server(inbox.port), MAIL)


def test_content_refused_for_now_is_retryable(inbox: Inbox) -> None:
    inbox.reply_to_mail = "451 try later"
    with pytest.raises(RetryableError, match="451 try later"):
        send_mail(server(inbox.port), MAIL)


def test_server_without_the_wanted_encryption_gets_no_mail(inbox: Inbox) -> None:
    strict = MailServer("127.0.0.1", inbox.port, timeout_seconds=0.5, starttls=True)
    with pytest.raises(RetryableError, match="STARTTLS"):
        send_mail(strict, MAIL)
    assert inbox.mails == []


def test_accepted_mail_is_not_sent_again_when_the_server_hangs_up(inbox: Inbox) -> None:
    inbox.hangs_up_after_mail = True
    send_mail(server(inbox.port), MAIL)
    assert len(inbox.mails) == 1
