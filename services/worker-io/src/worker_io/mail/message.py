"""Builds the mail that carries a report."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Final

from twinlane_sdk.errors import RejectedError

CHART_CID: Final = "chart"
"""The report's HTML shows the chart as `cid:chart`."""

_UNFIT_FOR_HEADERS: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's control characters, lone surrogates, line and paragraph separators."""


@dataclass(frozen=True, slots=True)
class Report:
    """A rendered report, of which its mail is made."""

    subject: str
    text: str
    html: str
    chart_png: bytes
    chart_alt: str
    table_csv: bytes
    table_name: str


def build_mail(
    report: Report, job_id: str, sender: str, recipient: str, sent_at: datetime
) -> EmailMessage:
    """Build the mail of a job: text, HTML with the chart inline, and the table as CSV.

    The Message-ID is derived from the job's id, so that a mail that had to be sent twice is known
    to be one (RFC 5322, section 3.6.4).

    Raises:
        RejectedError: a text for a header could add another header, or a recipient.

    """
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = _header("subject", report.subject)
    mail["From"] = _header("sender", sender)
    mail["To"] = _header("recipient", recipient)
    if [address.addr_spec for address in mail["To"].addresses] != [recipient]:
        raise RejectedError(f"{recipient!r} is not the address of one recipient")
    mail["Date"] = format_datetime(sent_at)
    mail["Message-ID"] = _header("job id", f"<{job_id}@{_domain(sender)}>")
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: keeps holiday notices from answering
    mail.set_content(report.text)
    mail.add_alternative(report.html, subtype="html")
    _add_chart(mail, report)
    mail.add_attachment(
        report.table_csv,
        maintype="text",
        subtype="csv",
        params={"charset": "utf-8"},
        filename=_header("name of the table", report.table_name),
    )
    return mail


def _header(what: str, text: str) -> str:
    """Return a text that is fit for a header. EmailMessage itself refuses line ends only."""
    if any(unicodedata.category(character) in _UNFIT_FOR_HEADERS for character in text):
        raise RejectedError(f"the mail's {what} has control characters in it: {text!r}")
    return text


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
        headers=[f"Content-Description: {_header('chart text', report.chart_alt)}"],
    )


def _domain(sender: str) -> str:
    return parseaddr(sender)[1].rpartition("@")[2]
