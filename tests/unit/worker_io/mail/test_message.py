from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest

from twinlane_sdk.errors import RejectedError
from worker_io.mail.message import Report, build_mail

REPORT = Report(
    subject="Vendas de março: São Paulo",
    text="Receita: R$ 10,00 — ótimo\n",
    html='<p>ótimo</p><img src="cid:chart" alt="Receita por região">',
    chart_png=b"\x89PNG\r\n\x1a\nchart",
    chart_alt="Receita por região",
    table_csv="região,receita\nsudeste,10.00\n".encode(),
    table_name="vendas.csv",
)
SENT_AT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def mail_as_received() -> EmailMessage:
    mail = build_mail(
        REPORT, "job-42", "Relatórios <no-reply@empresa.com>", "ana@empresa.com", SENT_AT
    )
    received = message_from_bytes(mail.as_bytes(), policy=default)
    assert isinstance(received, EmailMessage)
    return received


def test_headers_say_who_what_and_when() -> None:
    mail = mail_as_received()
    assert mail["Subject"] == "Vendas de março: São Paulo"
    assert mail["From"] == "Relatórios <no-reply@empresa.com>"
    assert mail["To"] == "ana@empresa.com"
    assert mail["Date"].datetime == SENT_AT
    assert mail["Auto-Submitted"] == "auto-generated"


def test_message_id_is_derived_from_the_job() -> None:
    assert mail_as_received()["Message-ID"] == "<job-42@empresa.com>"


def test_text_and_html_are_alternatives_and_the_chart_is_related_to_the_html() -> None:
    assert [part.get_content_type() for part in mail_as_received().walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "text/csv",
    ]


def test_parts_arrive_unchanged() -> None:
    _, _, text, _, html, chart, table = mail_as_received().walk()
    assert isinstance(text, EmailMessage)
    assert isinstance(html, EmailMessage)
    assert text.get_content().splitlines() == REPORT.text.splitlines()
    assert html.get_content().strip() == REPORT.html
    assert chart.get_payload(decode=True) == REPORT.chart_png
    assert table.get_payload(decode=True) == REPORT.table_csv


def test_chart_is_inline_under_the_id_that_the_html_names() -> None:
    chart = next(p for p in mail_as_received().walk() if p.get_content_type() == "image/png")
    assert chart["Content-ID"] == "<chart>"
    assert chart.get_content_disposition() == "inline"
    assert chart["Content-Description"] == "Receita por região"


def test_table_is_attached_under_its_name() -> None:
    (table,) = mail_as_received().iter_attachments()
    assert table.get_filename() == "vendas.csv"
    assert table.get_content_charset() == "utf-8"


LINE_ENDS = ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"]
HOSTILE = [
    *(f"Vendas{end}Bcc: eve@evil.net" for end in LINE_ENDS),
    "Vendas\r\n\r\n<h1>another body</h1>",
    "Vendas\0",
    "Vendas\x1b[2J",
    "Vendas\x7f",
    "Vendas\ud800",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_report_cannot_add_a_header(text: str) -> None:
    for hostile in (
        replace(REPORT, subject=text),
        replace(REPORT, chart_alt=text),
        replace(REPORT, table_name=text),
    ):
        with pytest.raises(RejectedError, match="has control characters in it: 'Vendas"):
            build_mail(hostile, "job-42", "no-reply@empresa.com", "ana@empresa.com", SENT_AT)


@pytest.mark.parametrize(
    "recipient",
    [
        *(f"ana@empresa.com{end}Bcc: eve@evil.net" for end in LINE_ENDS),
        "ana@empresa.com\0",
        "ana@empresa.com, eve@evil.net",
        "ana@empresa.com;eve@evil.net",
        "Ana <ana@empresa.com>",
        "eve@evil.net <ana@empresa.com>",
        "todos: ana@empresa.com, eve@evil.net;",
        "ana@empresa.com (eve@evil.net)",
        "",
    ],
)
def test_recipient_cannot_become_two(recipient: str) -> None:
    with pytest.raises(RejectedError, match="recipient"):
        build_mail(REPORT, "job-42", "no-reply@empresa.com", recipient, SENT_AT)


@pytest.mark.parametrize("text", HOSTILE)
def test_sender_and_job_cannot_add_a_header(text: str) -> None:
    with pytest.raises(RejectedError, match="sender has control characters"):
        build_mail(REPORT, "job-42", f"{text} <no-reply@empresa.com>", "ana@empresa.com", SENT_AT)
    with pytest.raises(RejectedError, match="job id has control characters"):
        build_mail(REPORT, text, "no-reply@empresa.com", "ana@empresa.com", SENT_AT)


def test_header_in_a_subject_stays_a_subject() -> None:
    subject = "Vendas · Bcc: eve@evil.net, ana@evil.net " + "à" * 300
    mail = build_mail(
        replace(REPORT, subject=subject), "job-42", "a@empresa.com", "ana@empresa.com", SENT_AT
    )
    received = message_from_bytes(mail.as_bytes(), policy=default)
    assert received["Subject"] == subject
    assert received["Bcc"] is None
