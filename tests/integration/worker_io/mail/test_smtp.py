import base64
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Protocol

import pytest

from twinlane_sdk.errors import RejectedError, RetryableError
from worker_io.mail.message import Report, build_mail
from worker_io.mail.smtp import MailServer, smtp_session

REPORT = Report("Olá", "text", "<p>html</p>", b"png", "chart", b"a,b\n", "table.csv")
MAIL = build_mail(REPORT, "job-42", "no-reply@empresa.com", "ana@empresa.com", datetime.now(UTC))


class Inbox(Protocol):
    port: int
    mails: list[EmailMessage]
    reply_to_recipient: str
    reply_to_mail: str
    reply_to_login: str
    recipients: list[str]
    hangs_up_after_mail: bool


def server(port: int, timeout_seconds: float = 10) -> MailServer:
    return MailServer("127.0.0.1", port, timeout_seconds=timeout_seconds)


def send_mail(server: MailServer, mail: EmailMessage) -> None:
    with smtp_session(server) as send:
        send(mail)


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
        send_mail(server(silent.getsockname()[1], timeout_seconds=0.5), MAIL)


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
    strict = replace(server(inbox.port), starttls=True)
    with pytest.raises(RetryableError, match="STARTTLS"):
        send_mail(strict, MAIL)
    assert inbox.mails == []


def test_accepted_mail_is_not_sent_again_when_the_server_hangs_up(inbox: Inbox) -> None:
    inbox.hangs_up_after_mail = True
    send_mail(server(inbox.port), MAIL)
    assert len(inbox.mails) == 1


def test_only_the_recipient_is_addressed(inbox: Inbox) -> None:
    send_mail(server(inbox.port), MAIL)
    assert inbox.recipients == ["ana@empresa.com"]


@contextmanager
def dripping_server() -> Iterator[int]:
    """Take a mail, and answer it a byte at a time, without an end."""
    over = threading.Event()

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 hello\r\n")
            for line in lines:
                if line.startswith(b"DATA"):
                    connection.sendall(b"354 go on\r\n")
                elif line == b".\r\n":
                    break
                elif line[:4].upper() in {b"EHLO", b"MAIL", b"RCPT"}:
                    connection.sendall(b"250 OK\r\n")
            connection.sendall(b"250-")
            try:
                while not over.wait(0.1):
                    connection.sendall(b".")
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=[listening])
        thread.start()
        yield listening.getsockname()[1]
        over.set()
        thread.join()


def test_sending_ends_in_time_whatever_the_server_does() -> None:
    started = time.monotonic()
    with (
        dripping_server() as port,
        pytest.raises(RetryableError, match="closed"),
    ):
        send_mail(replace(server(port), send_timeout_seconds=1), MAIL)
    assert time.monotonic() - started < 5


USERNAME, PASSWORD = "mailer", "correct horse"
ENCODED = base64.b64encode(PASSWORD.encode()).decode()
LOGIN = base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode()


def refused_login(inbox: Inbox, password: str = PASSWORD) -> str:
    login = replace(server(inbox.port), username=USERNAME, password=password)
    with pytest.raises(RetryableError) as refusal:
        send_mail(login, MAIL)
    return "".join(traceback.format_exception(refusal.value))


def test_login_works(inbox: Inbox) -> None:
    send_mail(replace(server(inbox.port), username=USERNAME, password=PASSWORD), MAIL)
    assert len(inbox.mails) == 1


@pytest.mark.parametrize(
    "reply",
    ["535 wrong", f"500 what is {ENCODED}", f"535 not {PASSWORD}", f"454 {LOGIN}"],
)
def test_refused_login_is_reported_without_the_password(inbox: Inbox, reply: str) -> None:
    inbox.reply_to_login = reply
    reported = refused_login(inbox)
    assert f"refused the login: {reply[:3]}" in reported
    assert PASSWORD not in reported
    assert LOGIN not in reported
    assert ENCODED not in reported


def test_password_that_cannot_be_sent_is_reported_without_it(inbox: Inbox) -> None:
    reported = refused_login(inbox, "sécret")
    assert "SMTP_USERNAME and SMTP_PASSWORD must be ASCII" in reported
    assert "cret" not in reported.replace("secret", "")
    assert inbox.mails == []
