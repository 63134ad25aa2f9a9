from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Final

import pytest

from e2e.client import TERMINAL, Api, Json, problem, unique
from e2e.sales import make_sales, to_csv

IO_TASKS: Final = {"io.draw_number", "io.fan_out", "io.fetch_url", "io.purge_files"}
CPU_TASKS: Final = {
    "cpu.aggregate_sales",
    "cpu.process_csv",
    "cpu.render_report",
    "cpu.sum_numbers",
}
BAD_LINE: Final = b"not a sale\n"


@pytest.fixture(scope="module")
def processed(api: Api) -> Json:
    """A job that has left artifacts behind."""
    name = unique("artifacts", ".csv")
    sales = make_sales(5_000, unique("region"), seed=1)
    job = api.process(name, to_csv(sales) + BAD_LINE)
    assert job["state"] == "succeeded", job
    return job


# --- the catalogue ---


def test_catalogue_describes_every_task_with_its_schemas_and_policies(api: Api) -> None:
    tasks = {task["name"]: task for task in api.read("/v1/tasks")["tasks"]}

    assert tasks.keys() == IO_TASKS | CPU_TASKS | {"io.send_report"}
    for name, task in tasks.items():
        assert task["lane"] == name.split(".")[0]
        assert task["summary"]
        assert task["deadline_seconds"] > 0
        assert task["retry"]["max_attempts"] >= 1
        assert task["args_schema"]["type"] == task["result_schema"]["type"] == "object"
    assert tasks["io.send_report"]["stages"] == ["cpu.render_report", "io.send_report"]


def test_one_task_of_the_catalogue_says_what_its_arguments_are(api: Api) -> None:
    task = api.read("/v1/tasks/cpu.sum_numbers")

    assert task["args_schema"]["properties"].keys() == {"a", "b"}
    assert task["args_schema"]["required"] == ["a", "b"]
    assert task["args_schema"]["additionalProperties"] is False


# --- each kind of task, submitted and finished ---


def test_accepted_job_says_where_to_look_and_when_to_ask_again(api: Api, httpbin: str) -> None:
    answer = api.post("/v1/tasks/io.fetch_url/jobs", json={"url": f"{httpbin}/delay/1"})

    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert int(answer.headers["Retry-After"]) >= 1
    assert (job["task"], job["lane"], job["state"]) == ("io.fetch_url", "io", "queued")
    assert job["expires_at"] > job["submitted_at"]


def test_fetch_url_tells_status_size_and_time(api: Api, httpbin: str) -> None:
    result = api.succeeded(api.submit("io.fetch_url", {"url": f"{httpbin}/bytes/1000"}))

    assert (result["status"], result["size_bytes"]) == (200, 1_000)
    assert result["elapsed_seconds"] > 0


def test_fetch_url_takes_a_4xx_for_an_answer(api: Api, httpbin: str) -> None:
    result = api.succeeded(api.submit("io.fetch_url", {"url": f"{httpbin}/status/404"}))

    assert result["status"] == 404


def test_fetch_url_retries_a_5xx_and_shows_every_attempt(api: Api, httpbin: str) -> None:
    job_id = api.submit("io.fetch_url", {"url": f"{httpbin}/status/503"})

    retrying = api.awaited(job_id, lambda job: job["state"] == "retrying")

    assert retrying["next_attempt_at"] > retrying["submitted_at"]
    first = retrying["attempts"][0]
    assert (first["number"], first["task"]) == (1, "io.fetch_url")
    assert "503" in first["error"]["message"]
    assert first["backoff_seconds"] >= 1
    error = api.failed(job_id)
    assert (error["code"], error["retryable"]) == ("attempts-exhausted", True)
    attempts = api.read(f"/v1/jobs/{job_id}")["attempts"]
    assert [attempt["number"] for attempt in attempts] == [1, 2, 3, 4, 5]


def test_fan_out_calls_its_addresses_at_the_same_time_and_keeps_their_order(
    api: Api, httpbin: str
) -> None:
    codes = [200, 404, 201] * 4
    urls = [f"{httpbin}/delay/1", *(f"{httpbin}/status/{code}" for code in codes)] * 3

    result = api.succeeded(api.submit("io.fan_out", {"urls": urls}))

    assert [response["status"] for response in result["responses"]] == [200, *codes] * 3
    assert result["elapsed_seconds"] < 3


def test_result_above_64_kib_is_a_reference_in_the_job_and_streamed_as_the_result(
    api: Api, httpbin: str
) -> None:
    urls = [f"{httpbin}/status/200?{n}={'x' * 400}" for n in range(300)]
    job_id = api.submit("io.fan_out", {"urls": urls})

    assert api.succeeded(job_id).keys() == {"$artifact", "size_bytes"}
    answer = api.get(f"/v1/jobs/{job_id}/result")

    assert answer.status_code == 200
    assert len(answer.content) > 64 * 1024
    assert answer.headers["Content-Type"] == "application/json"
    assert [response["url"] for response in answer.json()["responses"]] == urls


def test_draw_ends_above_six(api: Api) -> None:
    drawn = api.ended(api.submit("io.draw_number", {}), within_seconds=200)

    assert drawn["state"] == "succeeded"
    assert 7 <= drawn["result"]["number"] <= 10


def test_purge_reports_what_it_freed(api: Api) -> None:
    result = api.succeeded(api.submit("io.purge_files", {}))

    assert result.keys() == {"uploads", "artifacts", "freed_bytes"}


def test_render_report_leaves_the_four_parts_of_a_mail_as_artifacts(api: Api) -> None:
    region = unique("region")
    api.process(unique("render", ".csv"), to_csv(make_sales(200, region, seed=2)))

    job_id = api.submit("cpu.render_report", {"region": region, "month": "2025-02"})

    result = api.succeeded(job_id)
    assert result["month"] == "2025-02"
    assert result["rows"] > 0
    listed = {file["name"] for file in api.read(f"/v1/jobs/{job_id}/artifacts")["artifacts"]}
    assert {result[part] for part in ("html", "text", "chart", "table")} <= listed
    chart = api.get(f"/v1/jobs/{job_id}/artifacts/{result['chart']}")
    assert chart.content.startswith(b"\x89PNG")
    assert chart.headers["Content-Type"] == "image/png"


def test_aggregate_over_a_range_of_months_adds_them_up(api: Api) -> None:
    region = unique("region")
    sales = make_sales(300, region, seed=3)
    api.process(unique("range", ".csv"), to_csv(sales))

    args = {"region": region, "month": "2025-02", "until": "2025-03"}
    result = api.succeeded(api.submit("cpu.aggregate_sales", args))

    assert result["figures"]["rows"] == sum(sale.date.month in {2, 3} for sale in sales)


# --- waiting ---


def test_prefer_wait_answers_200_with_the_result_when_it_is_there_in_time(
    api: Api, httpbin: str
) -> None:
    answer = api.post(
        "/v1/tasks/io.fetch_url/jobs",
        json={"url": f"{httpbin}/delay/0"},
        headers={"Prefer": "wait=30"},
    )

    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert answer.json()["state"] == "succeeded"
    assert answer.json()["result"]["status"] == 200


def test_prefer_wait_answers_202_when_time_is_up(api: Api, httpbin: str) -> None:
    answer = api.post(
        "/v1/tasks/io.fetch_url/jobs",
        json={"url": f"{httpbin}/delay/5"},
        headers={"Prefer": "wait=1"},
    )

    assert answer.status_code == 202
    assert answer.json()["state"] not in TERMINAL
    assert "Retry-After" in answer.headers


def test_long_poll_answers_as_soon_as_the_job_ends(api: Api, httpbin: str) -> None:
    job_id = api.submit("io.fetch_url", {"url": f"{httpbin}/delay/2"})
    running = api.awaited(job_id, lambda job: job["state"] == "running")

    answer = api.get(f"/v1/jobs/{job_id}", params={"wait": 50})

    assert answer.json()["state"] == "succeeded"
    assert answer.elapsed < timedelta(seconds=10)
    assert "Retry-After" not in answer.headers
    assert running["finished_at"] is None


def test_long_poll_answers_with_what_there_is_when_time_is_up(api: Api, httpbin: str) -> None:
    job_id = api.submit("io.fetch_url", {"url": f"{httpbin}/delay/0"}, delay=3_600)

    answer = api.get(f"/v1/jobs/{job_id}", params={"wait": 0.5})

    assert answer.json()["state"] == "scheduled"
    assert timedelta(seconds=0.5) <= answer.elapsed < timedelta(seconds=5)
    assert "Retry-After" in answer.headers


# --- starting later ---


def test_job_with_a_delay_is_scheduled_and_runs_when_it_is_due(api: Api, httpbin: str) -> None:
    answer = api.post(
        "/v1/tasks/io.fetch_url/jobs", json={"url": f"{httpbin}/delay/0"}, params={"delay": 2}
    )

    job = answer.json()
    assert (answer.status_code, job["state"]) == (202, "scheduled")
    ended = api.ended(job["id"])
    assert ended["state"] == "succeeded"
    assert ended["started_at"] >= job["run_at"]


def test_job_with_a_run_at_starts_at_that_time(api: Api, httpbin: str) -> None:
    run_at = datetime.now(UTC) + timedelta(seconds=2)

    job_id = api.submit("io.fetch_url", {"url": f"{httpbin}/delay/0"}, run_at=run_at.isoformat())

    ended = api.ended(job_id)
    assert ended["state"] == "succeeded"
    assert datetime.fromisoformat(ended["started_at"]) >= run_at


def test_run_at_in_the_past_is_now(api: Api, httpbin: str) -> None:
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()

    job_id = api.submit("io.fetch_url", {"url": f"{httpbin}/delay/0"}, run_at=past)

    assert api.ended(job_id)["state"] == "succeeded"


# --- results ---


def test_result_is_the_bare_result(api: Api, httpbin: str) -> None:
    job = api.run("io.fetch_url", {"url": f"{httpbin}/delay/0"})

    assert api.read(f"/v1/jobs/{job['id']}/result") == job["result"]


def test_result_of_an_unfinished_job_is_a_conflict(api: Api, httpbin: str) -> None:
    job_id = api.submit("io.fetch_url", {"url": f"{httpbin}/delay/0"}, delay=3_600)

    answer = api.get(f"/v1/jobs/{job_id}/result")

    conflict = problem(answer, 409, "job-not-finished")
    assert conflict["state"] == "scheduled"
    assert "Retry-After" in answer.headers


def test_result_of_a_failed_job_is_a_conflict_that_says_why(api: Api, httpbin: str) -> None:
    job_id = api.submit("io.fetch_url", {"url": f"{httpbin}/redirect/20"})
    error = api.failed(job_id)

    conflict = problem(api.get(f"/v1/jobs/{job_id}/result"), 409, "job-has-no-result")

    assert conflict["state"] == "failed"
    assert error["detail"] in conflict["detail"]


def test_failed_job_carries_a_problem_that_says_whether_again_may_help(
    api: Api, httpbin: str
) -> None:
    error = api.failed(api.submit("io.fetch_url", {"url": f"{httpbin}/redirect/20"}))

    assert (error["code"], error["retryable"]) == ("job-rejected", False)
    assert error["dead_lettered"] is True
    assert "redirects more than" in error["detail"]
    assert error["title"]


def test_redirect_to_a_host_that_is_not_allowed_fails_the_job(api: Api, httpbin: str) -> None:
    url = f"{httpbin}/redirect-to?url=http://example.org/"

    error = api.failed(api.submit("io.fetch_url", {"url": url}))

    assert error["code"] == "job-rejected"
    assert "example.org" in error["detail"]


# --- artifacts ---


def test_artifacts_are_listed_as_the_result_names_them(api: Api, processed: Json) -> None:
    artifacts = api.read(processed["links"]["artifacts"])["artifacts"]

    by_name = {file["name"]: file for file in artifacts}
    assert by_name.keys() >= set(processed["result"]["artifacts"])
    assert {PurePath(name).suffix for name in by_name} >= {".parquet", ".csv", ".json"}
    for file in artifacts:
        content = api.get(file["url"])
        assert content.headers["Content-Type"].startswith(file["media_type"])
        assert len(content.content) == file["size_bytes"]


def test_parquet_artifact_is_a_parquet(api: Api, processed: Json) -> None:
    (name,) = (name for name in processed["result"]["artifacts"] if name.endswith(".parquet"))

    content = api.get(f"{processed['links']['artifacts']}/{name}").content

    assert content[:4] == content[-4:] == b"PAR1"


def test_quarantine_artifact_holds_the_bad_lines_word_for_word(api: Api, processed: Json) -> None:
    quarantine = api.get(f"{processed['links']['artifacts']}/quarantine.csv").text

    assert len(quarantine.splitlines()) == 2
    assert BAD_LINE.decode().strip() in quarantine


def test_artifact_is_downloaded_in_parts_that_make_up_the_whole(api: Api, processed: Json) -> None:
    url = f"{processed['links']['artifacts']}/profile.json"
    whole = api.get(url)

    first = api.get(url, headers={"Range": "bytes=0-99"})
    rest = api.get(url, headers={"Range": "bytes=100-", "If-Range": whole.headers["ETag"]})
    tail = api.get(url, headers={"Range": "bytes=-10"})

    assert whole.headers["Accept-Ranges"] == "bytes"
    assert (first.status_code, rest.status_code, tail.status_code) == (206, 206, 206)
    assert first.headers["Content-Range"] == f"bytes 0-99/{len(whole.content)}"
    assert first.content + rest.content == whole.content
    assert tail.content == whole.content[-10:]


def test_artifact_that_the_client_has_already_is_not_sent_again(api: Api, processed: Json) -> None:
    url = f"{processed['links']['artifacts']}/profile.json"
    etag = api.get(url).headers["ETag"]

    again = api.get(url, headers={"If-None-Match": etag})

    assert (again.status_code, again.content) == (304, b"")
    assert api.get(url, headers={"If-None-Match": '"another"'}).status_code == 200


def test_range_outside_the_artifact_is_a_problem(api: Api, processed: Json) -> None:
    url = f"{processed['links']['artifacts']}/profile.json"

    answer = api.get(url, headers={"Range": "bytes=999999999-"})

    refused = problem(answer, 416, "range-not-satisfiable")
    assert refused["size_bytes"] == len(api.get(url).content)


def test_unknown_artifact_is_not_found(api: Api, processed: Json) -> None:
    answer = api.get(f"{processed['links']['artifacts']}/nothing.csv")

    problem(answer, 404, "artifact-not-found")


def test_job_without_artifacts_has_an_empty_list(api: Api, httpbin: str) -> None:
    job = api.run("io.fetch_url", {"url": f"{httpbin}/delay/0"})

    assert api.read(job["links"]["artifacts"]) == {"artifacts": []}


@pytest.mark.parametrize("path", ["", "/result", "/artifacts", "/artifacts/profile.json"])
def test_unknown_job_is_not_found(api: Api, path: str) -> None:
    problem(api.get(f"/v1/jobs/{unique('nothing')}{path}"), 404, "job-not-found")
