"""Builds a report's mail and hands it to the mail server."""

import smtplib
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Final

from contracts.errors import RejectedError, RetryableError

CHART_CID: Final = "chart"
"""The report's HTML shows the chart as `cid:chart`."""

_FIRST_PERMANENT: Final = 500


@dataclass(frozen=True, slots=True)
class Report:
    """A rendered report: what its mail consists of."""

    subject: str
    text: str
    html: str
    chart_png: bytes
    chart_alt: str
    table_csv: bytes
    table_name: str


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed over; `timeout_seconds` is that of connecting and of each answer."""

    host: str
    port: int
    timeout_seconds: float
    username: str | None = None
    password: str | None = None
    starttls: bool = False


def build_mail(
    report: Report, job_id: str, sender: str, recipient: str, sent_at: datetime
) -> EmailMessage:
    """Build the mail of a job: text, HTML with the chart inline, and the table as CSV.

    The Message-ID is derived from the job's id, so that a mail that had to be sent twice is known
    to be one (RFC 5322, section 3.6.4).
    """
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = report.subject
    mail["From"] = sender
    mail["To"] = recipient
    mail["Date"] = format_datetime(sent_at)
    mail["Message-ID"] = f"<{job_id}@{_domain(sender)}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: keeps holiday notices from answering
    mail.set_content(report.text)
    mail.add_alternative(report.html, subtype="html")
    _add_chart(mail, report)
    mail.add_attachment(
        report.table_csv,
        maintype="text",
        subtype="csv",
        params={"charset": "utf-8"},
        filename=report.table_name,
    )
    return mail


def send_mail(server: MailServer, mail: EmailMessage) -> None:
    """Hand a mail to the server; return once it has taken responsibility for it.

    Raises:
        RejectedError: the server will never take it: 5xx to its recipient or its content.
        RetryableError: anything else, also a server that is wrongly set up: it can be put right.

    """
    try:
        connection = _connect(server)
        try:
            connection.send_message(mail)
        finally:
            _part(connection)
    except smtplib.SMTPRecipientsRefused as exc:
        recipient, (code, reply) = next(iter(exc.recipients.items()))
        raise _refusal(f"{recipient} was refused", code, reply) from exc
    except smtplib.SMTPDataError as exc:
        raise _refusal("the mail was refused", exc.smtp_code, exc.smtp_error) from exc
    except OSError as exc:  # SMTPException is one
        reason = str(exc) or type(exc).__name__
        raise RetryableError(f"mail server {server.host}:{server.port}: {reason}") from exc


def _add_chart(mail: EmailMessage, report: Report) -> None:
    html = mail.get_body(("html",))
    if not isinstance(html, EmailMessage):
        raise TypeError("the mail has no HTML part")
    html.add_related(
        report.chart_png,
        maintype="image",
        subtype="png",
        cid=f"<{CHART_CID}>",
        filename="chart.png",
        disposition="inline",
        headers=[f"Content-Description: {report.chart_alt}"],
    )


def _connect(server: MailServer) -> smtplib.SMTP:
    connection = smtplib.SMTP(
        server.host,
        server.port,
        timeout=server.timeout_seconds,
        # smtplib's default asks the DNS for a full name, without any timeout.
        local_hostname=socket.gethostname(),
    )
    try:
        if server.starttls:
            connection.starttls(context=ssl.create_default_context())
        if server.username is not None:
            connection.login(server.username, server.password or "")
    except BaseException:
        connection.close()
        raise
    return connection


def _part(connection: smtplib.SMTP) -> None:
    # A mail that was accepted must not be sent again because the farewell went wrong.
    with suppress(OSError):
        connection.quit()
    connection.close()


def _refusal(what: str, code: int, reply: bytes | str) -> RejectedError | RetryableError:
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else reply
    error = RejectedError if code >= _FIRST_PERMANENT else RetryableError
    return error(f"{what} by the mail server: {code} {text}")


def _domain(sender: str) -> str:
    return parseaddr(sender)[1].rpartition("@")[2]
