"""The routes of the five demonstration systems, as their authors would try them."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from email.message import EmailMessage
from typing import Final

import pytest

from e2e.client import TERMINAL, Api, Json, problem, unique
from e2e.conftest import Stack
from e2e.inbox import only_mail_to
from e2e.sales import figures_of, make_sales, to_csv
from servers import eventually

ENOUGH_WORDS: Final = 40


def reports_until_done(api: Api, task_id: str) -> Iterator[Json]:
    """Yield what /tasks/{id} says at each step of a job."""
    done = False
    while not done:
        job = api.read(f"/v1/jobs/{task_id}", wait=0.2)
        done = job["state"] in TERMINAL
        yield api.read(f"/tasks/{task_id}")


# --- /send-task/ and /task-status ---


def test_send_task_adds_two_numbers(api: Api) -> None:
    task_id = api.accepted("/send-task/", a=2, b=3)

    api.ended(task_id)

    status = api.read(f"/task-status/{task_id}")
    assert (status["task_id"], status["status"], status["result"]) == (task_id, "SUCCESS", 5)


def test_send_task_is_exact_for_numbers_of_4000_digits(api: Api) -> None:
    a, b = 10**4_000 - 1, -(10**3_999) - 7

    task_id = api.accepted("/send-task/", a=a, b=b)

    api.ended(task_id)
    assert api.read(f"/task-status/{task_id}")["result"] == a + b


def test_task_status_says_that_it_is_still_processing_until_then(api: Api) -> None:
    task_id = api.accepted("/send-task/", a=1, b=1)

    first = api.read(f"/task-status/{task_id}")

    assert "still processing" in first["status"]
    assert "result" not in first
    api.ended(task_id)
    assert api.read(f"/task-status/{task_id}")["status"] == "SUCCESS"


def test_tasks_goes_from_pending_over_processing_to_success_with_progress(api: Api) -> None:
    task_id = api.accepted("/send-task/", a=20, b=22)

    reports = [api.read(f"/tasks/{task_id}"), *reports_until_done(api, task_id)]

    assert {report["status"] for report in reports} <= {
        "PENDING",
        "STARTED",
        "PROCESSING",
        "SUCCESS",
    }
    progress = [report["progress"] for report in reports if report["status"] == "PROCESSING"]
    assert progress
    assert all(step["unit"] == "seconds" for step in progress)
    assert all(0 <= step["current"] <= step["total"] for step in progress)
    assert reports[-1] == {"task_id": task_id, "status": "SUCCESS", "result": 42}


# --- /process-csv ---


def test_process_csv_generates_a_sample_when_there_is_no_such_file(api: Api) -> None:
    name = unique("amostra", ".csv")

    answer = api.post("/process-csv", params={"filename": name, "num_rows": 2_500})

    assert answer.status_code == 202
    assert answer.json()["status"] == "queued"
    assert "2,500" in answer.json()["message"]
    result = api.succeeded(answer.json()["task_id"])
    assert result["generated"] is True
    assert (result["rows_in"], result["rows_clean"]) == (2_500, 2_500)
    assert result["sales"]["rows"] == 2_500


def test_sample_is_the_same_whenever_it_is_asked_for(api: Api) -> None:
    name = unique("amostra", ".csv")

    first, second = (
        api.succeeded(api.accepted("/process-csv", filename=name, num_rows=500)) for _ in range(2)
    )

    assert first["columns"] == second["columns"]
    assert first["sales"]["changed"] is True
    assert second["sales"]["changed"] is False


def test_process_csv_takes_the_uploaded_file_and_quarantines_its_bad_lines(api: Api) -> None:
    name = unique("vendas", ".csv")
    sales = to_csv(make_sales(300, unique("regiao"), seed=11))
    bad = b"301,not a date,sul,mouse,1,9.90\n302,2025-01-01,sul\n303,2025-01-01,sul,mouse,um,1.00\n"
    api.upload(name, sales + bad)

    answer = api.post("/process-csv", params={"filename": name})

    assert name in answer.json()["message"]
    result = api.succeeded(answer.json()["task_id"])
    assert result["generated"] is False
    assert (result["rows_in"], result["rows_clean"], result["rows_quarantined"]) == (303, 300, 3)
    assert [line["line"] for line in result["quarantine_preview"]] == [302, 303, 304]
    assert [line["column"] for line in result["quarantine_preview"]] == [
        "date",
        "product",
        "quantity",
    ]
    assert all(line["reason"] for line in result["quarantine_preview"])
    raw = [line["raw"] for line in result["quarantine_preview"]]
    assert raw == bad.decode().splitlines()


def test_profile_tells_type_nulls_extremes_and_frequent_values_of_each_column(api: Api) -> None:
    content = b"city,visits,note\nRecife,10,\nNatal,30,seen\nRecife,20,\n"

    result = api.process(unique("cities", ".csv"), content)["result"]

    columns = {column["name"]: column for column in result["columns"]}
    assert [column["name"] for column in result["columns"]] == ["city", "visits", "note"]
    assert columns["visits"]["type"] == "BIGINT"
    assert (columns["visits"]["minimum"], columns["visits"]["maximum"]) == ("10", "30")
    assert Decimal(columns["visits"]["mean"]) == Decimal(20)
    assert columns["note"]["nulls"] == 2
    assert columns["city"]["top_values"][0] == {"value": "Recife", "count": 2}
    assert result["sales"] is None


# --- /aggregate ---


def test_aggregate_equals_what_python_makes_of_the_same_file(api: Api) -> None:
    region = unique("regiao")
    content = to_csv(make_sales(2_000, region, seed=12))
    api.process(unique("vendas", ".csv"), content)

    result = api.succeeded(api.accepted("/aggregate", region=region, month="2025-02"))

    expected = figures_of(content, region, "2025-02")
    before = figures_of(content, region, "2025-01")
    figures = result["figures"]
    assert (figures["rows"], figures["quantity"]) == (expected.rows, expected.quantity)
    assert Decimal(figures["revenue"]) == expected.revenue
    ticket = (expected.revenue / expected.rows).quantize(Decimal("0.01"))
    assert abs(Decimal(figures["average_ticket"]) - ticket) <= Decimal("0.01")
    assert result["previous_month"] == "2025-01"
    assert Decimal(result["previous"]["revenue"]) == before.revenue
    products = {entry["product"]: Decimal(entry["revenue"]) for entry in result["top_products"]}
    assert products == expected.revenue_by_product
    assert list(products.values()) == sorted(products.values(), reverse=True)


def test_aggregate_of_what_nobody_sold_is_zero_and_no_error(api: Api) -> None:
    result = api.succeeded(api.accepted("/aggregate", region=unique("nowhere"), month="2025-01"))

    assert result["figures"]["rows"] == 0
    assert Decimal(result["figures"]["revenue"]) == 0
    assert result["figures"]["average_ticket"] is None


# --- /send-report ---


def part(mail: EmailMessage, fits: Callable[[EmailMessage], bool]) -> EmailMessage:
    (found,) = filter(fits, mail.walk())
    return found


def text_of(mail: EmailMessage, subtype: str) -> str:
    body = mail.get_body((subtype,))
    assert body is not None
    content: str = body.get_content()
    return content


def test_send_report_delivers_text_html_chart_and_table_in_one_mail(api: Api, stack: Stack) -> None:
    api.process(unique("vendas", ".csv"), to_csv(make_sales(100, unique("regiao"), seed=13)))
    address = unique("analista", "@empresa.com")

    task_id = api.accepted("/send-report", email=address, report_type="vendas_mensal")

    result = api.succeeded(task_id)
    mail = only_mail_to(stack, address)
    assert mail["To"] == address
    assert mail["Subject"] == result["subject"]
    assert mail["Message-ID"] == result["message_id"]
    assert task_id in mail["Message-ID"]
    assert len(text_of(mail, "plain").split()) > ENOUGH_WORDS
    html = text_of(mail, "html")
    image = re.search(r"<img[^>]*>", html)
    assert image is not None
    alt = re.search(r'alt="([^"]+)"', image[0])
    assert alt is not None
    assert len(alt[1]) > len("chart")
    chart = part(mail, lambda part: part.get_content_type() == "image/png")
    assert chart.get_content_disposition() == "inline"
    assert f"cid:{chart['Content-ID'].strip('<>')}" in image[0]
    assert chart.get_content().startswith(b"\x89PNG")
    table = part(mail, lambda part: part.get_content_type() == "text/csv")
    assert table.get_content_disposition() == "attachment"
    assert result["attachments"] == [table.get_filename()]


def test_report_of_a_region_and_month_tells_its_exact_revenue(api: Api, stack: Stack) -> None:
    region, address = unique("regiao"), unique("chefe", "@empresa.com")
    content = to_csv(make_sales(400, region, seed=14))
    api.process(unique("vendas", ".csv"), content)
    args = {"email": address, "report_type": "vendas", "region": region, "month": "2025-03"}

    result = api.succeeded(api.submit("io.send_report", args))

    assert result["email"] == address
    mail = only_mail_to(stack, address)
    revenue = figures_of(content, region, "2025-03").revenue
    shown = f"{revenue:,.2f}".translate(str.maketrans(",.", ".,"))
    assert shown in text_of(mail, "plain")
    assert shown in text_of(mail, "html")
    table = part(mail, lambda part: part.get_content_type() == "text/csv").get_content()
    assert len(list(csv.reader(io.StringIO(table)))) > 1


def test_report_runs_through_both_lanes_under_one_id(api: Api) -> None:
    task_id = api.accepted("/send-report", email=unique("a", "@empresa.com"))

    job = api.ended(task_id)

    assert (job["state"], job["task"], job["lane"]) == ("succeeded", "io.send_report", "io")
    assert [attempt["task"] for attempt in job["attempts"]] == [
        "cpu.render_report",
        "io.send_report",
    ]
    assert api.read(f"/tasks/{task_id}")["status"] == "SUCCESS"


# --- /queue/stats ---


def test_queue_stats_counts_both_workers_and_every_queue(api: Api) -> None:
    stats = api.read("/queue/stats")

    assert stats["total_workers"] == len(stats["workers"]) >= 2
    assert {name.split("-")[1] for name in stats["workers"]} == {"io", "cpu"}
    for worker in stats["workers"].values():
        assert worker["active_tasks"] >= 0
        assert worker["reserved_tasks"] >= 0
    assert stats["queues"].keys() >= {"jobs.io", "jobs.cpu"}
    for lane in ("jobs.io", "jobs.cpu"):
        assert stats["queues"][lane]["consumers"] >= 1
        assert stats["queues"][lane].keys() == {"ready", "unacknowledged", "consumers"}


def test_queue_stats_shows_a_running_job(api: Api, httpbin: str) -> None:
    job_id = api.submit("io.fetch_url", {"url": f"{httpbin}/delay/3"})
    api.awaited(job_id, lambda job: job["state"] == "running")

    workers = api.read("/queue/stats")["workers"]

    active = sum(
        worker["active_tasks"] for name, worker in workers.items() if name.startswith("worker-io")
    )
    assert active >= 1
    api.ended(job_id)


# --- /sequential and /sequential_celery ---


def test_sequential_takes_as_long_as_its_calls_together(api: Api) -> None:
    result = api.read("/sequential", n=2, delay=1)

    assert result["status"] == [200, 200]
    assert 2 <= result["time_taken"] < 10


def test_sequential_celery_makes_the_same_calls_at_the_same_time(api: Api) -> None:
    answer = api.get("/sequential_celery", params={"n": 5, "delay": 1})

    assert answer.status_code == 202
    task_id = answer.json()["task_id"]
    before = api.read(f"/result/{task_id}")
    assert before["status"] == "Task is still in progress"
    assert before["state"] in {"PENDING", "STARTED"}
    api.ended_batch(task_id)
    result = api.read(f"/result/{task_id}")
    assert result["status"] == [200] * 5
    assert 1 <= result["time_taken"] < 4


def test_result_of_failed_calls_says_that_and_why(api: Api, httpbin: str) -> None:
    job_id = api.submit("io.fetch_url", {"url": f"{httpbin}/redirect/20"})
    api.failed(job_id)

    result = api.read(f"/result/{job_id}")

    assert (result["status"], result["state"]) == ("Task failed", "FAILURE")
    assert "redirects" in result["error"]


def test_tasks_of_a_failed_job_says_failure_and_why(api: Api, httpbin: str) -> None:
    job_id = api.submit("io.fetch_url", {"url": f"{httpbin}/redirect/20"})
    api.failed(job_id)

    report = api.read(f"/tasks/{job_id}")

    assert report["status"] == "FAILURE"
    assert "redirects" in report["error"]
    assert api.read(f"/task-status/{job_id}")["status"] == "FAILURE"


# --- /exibir ---


def test_exibir_draws_until_it_has_more_than_six_and_shows_every_attempt(api: Api) -> None:
    # One draw in 0.4 needs no retry: among a dozen there is one that does.
    task_ids = [api.accepted("/exibir") for _ in range(12)]
    retried: Json | None = None

    def somebody_has_succeeded_after_a_retry() -> bool:
        nonlocal retried
        jobs = (api.read(f"/v1/jobs/{task_id}") for task_id in task_ids)
        retried = next(
            (job for job in jobs if job["state"] == "succeeded" and len(job["attempts"]) > 1), None
        )
        return retried is not None

    assert eventually(somebody_has_succeeded_after_a_retry, within_seconds=60)
    assert retried is not None
    *misses, hit = retried["attempts"]
    assert [attempt["number"] for attempt in retried["attempts"]] == list(range(1, len(misses) + 2))
    assert all(re.search(r"drew [1-6]\b", attempt["error"]["message"]) for attempt in misses)
    assert all(1 <= attempt["backoff_seconds"] <= 8 for attempt in misses)
    assert hit["error"] is None
    report = api.read(f"/tasks/{retried['id']}")
    assert report["status"] == "SUCCESS"
    assert 7 <= report["result"] <= 10


def test_draw_that_waits_for_its_next_attempt_is_a_retry(api: Api) -> None:
    def some_draw_is_a_retry() -> bool:
        task_id = api.accepted("/exibir")
        job = api.awaited(task_id, lambda job: bool(job["attempts"]))
        report = api.read(f"/tasks/{task_id}")
        return (job["state"], report["status"]) == ("retrying", "RETRY")

    assert eventually(some_draw_is_a_retry, within_seconds=30)


# --- all of them ---


@pytest.mark.parametrize(
    ("method", "path", "successor"),
    [
        ("POST", "/send-task/?a=1&b=2", "/v1/tasks/cpu.sum_numbers/jobs"),
        ("POST", "/process-csv?num_rows=1&filename=one_sale.csv", "/v1/tasks/cpu.process_csv/jobs"),
        ("POST", "/aggregate", "/v1/tasks/cpu.aggregate_sales/jobs"),
        ("POST", "/send-report", "/v1/tasks/io.send_report/jobs"),
        ("POST", "/exibir", "/v1/tasks/io.draw_number/jobs"),
        ("GET", "/sequential_celery?n=1&delay=0", "/v1/batches"),
        ("GET", "/sequential?n=1&delay=0", "/v1/tasks/io.fan_out/jobs"),
        ("GET", "/queue/stats", "/v1/lanes"),
    ],
)
def test_route_names_its_successor(api: Api, method: str, path: str, successor: str) -> None:
    answer = api.http.request(method, path)

    assert answer.is_success
    assert answer.headers["Link"] == f'<{successor}>; rel="successor-version"'


@pytest.mark.parametrize("path", ["/task-status/", "/tasks/", "/result/"])
def test_unknown_id_is_not_found_and_never_pending(api: Api, path: str) -> None:
    problem(api.get(path + unique("nothing")), 404, "job-not-found")


@pytest.mark.parametrize("path", ["/task-status/", "/tasks/", "/result/"])
def test_route_of_a_known_id_names_its_successor(api: Api, httpbin: str, path: str) -> None:
    job_id = api.submit("io.fetch_url", {"url": f"{httpbin}/delay/0"})

    link = api.get(path + job_id).headers["Link"]

    assert link.startswith("</v1/jobs/")
    assert link.endswith('>; rel="successor-version"')
