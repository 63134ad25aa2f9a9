"""The API as a process, on a real broker, Redis and storage, with or without a worker."""

import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import obstore
import pytest

from contracts.states import JobState
from contracts.storage import artifact_key, open_storage
from integration.broker import Broker
from integration.jobs import Jobs
from integration.place import Place, new_place
from integration.proxy import Proxy
from integration.services import run_api, run_lane_worker
from servers import RabbitMQ, Redis, eventually
from twinlane_sdk.lanes import Lane

MAX_UPLOAD_BYTES = 200_000
MAX_BODY_BYTES = 50_000
MAX_BATCH_ITEMS = 20
SOCKET_BUFFERS_BYTES = 32 * 1024**2
"""More than lies between a client that sends and a server that has stopped to read."""

SUM = "/v1/tasks/cpu.sum_numbers/jobs"
FETCH = "/v1/tasks/io.fetch_url/jobs"
CSV = "/v1/tasks/cpu.process_csv/jobs"
REPORT = "/v1/tasks/io.send_report/jobs"
AGGREGATE = "/v1/tasks/cpu.aggregate_sales/jobs"
FAN_OUT = "/v1/tasks/io.fan_out/jobs"

Traces = Callable[[], tuple[set[str], list[int]]]


@pytest.fixture(scope="module")
def place(
    rabbitmq: RabbitMQ, redis: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    with new_place(rabbitmq, redis, tmp_path_factory.mktemp("api")) as place:
        Broker(place).declare()
        yield place


@pytest.fixture(scope="module")
def api(place: Place) -> Iterator[httpx2.Client]:
    """An API without workers: what is submitted stays in its queue."""
    with run_api(
        place,
        fetch_allowed_hosts="httpbin.test,*.test",
        report_allowed_recipients="@empresa.com",
        max_upload_bytes=MAX_UPLOAD_BYTES,
        max_body_bytes=MAX_BODY_BYTES,
        max_batch_items=MAX_BATCH_ITEMS,
    ) as client:
        yield client


@pytest.fixture
def worker(place: Place) -> Iterator[None]:
    with run_lane_worker(place, Lane.IO):
        yield


@pytest.fixture
def traces(place: Place, jobs: Jobs) -> Traces:
    """All that a submission leaves: records and messages."""
    broker = Broker(place)
    return lambda: (jobs.ids(), [broker.ready(lane.queue_name) for lane in Lane])


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["code"]) == (status, code), document
    return document


def accepted(answer: httpx2.Response) -> str:
    """Check that a job was accepted and return its id."""
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    assert answer.headers["Location"] == f"/v1/jobs/{job_id}"
    assert int(answer.headers["Retry-After"]) > 0
    return job_id


# --- submitting ---


def test_accepted_job_can_be_asked_for_at_once(api: httpx2.Client) -> None:
    answer = api.post(SUM, json={"a": 2, "b": 3})
    shown = api.get(f"/v1/jobs/{accepted(answer)}")
    assert shown.status_code == 200
    assert shown.json() == answer.json()
    assert shown.json()["state"] == "queued"
    assert shown.headers["Retry-After"]


@pytest.mark.parametrize("suffix", ["", "/result", "/artifacts", "/artifacts/profile.json"])
def test_unknown_job_is_a_404_everywhere(api: httpx2.Client, suffix: str) -> None:
    problem(api.get(f"/v1/jobs/nobody{suffix}"), 404, "job-not-found")


@pytest.mark.parametrize("path", ["/tasks/nobody", "/task-status/nobody", "/result/nobody"])
def test_unknown_job_is_a_404_on_the_demonstration_routes(api: httpx2.Client, path: str) -> None:
    problem(api.get(path), 404, "job-not-found")


def test_unknown_task_is_a_404_that_lists_those_there_are(api: httpx2.Client) -> None:
    document = problem(api.post("/v1/tasks/cpu.nothing/jobs", json={}), 404, "task-not-found")
    assert "cpu.sum_numbers" in document["detail"]


@pytest.mark.parametrize(
    ("path", "body", "wrong"),
    [
        (SUM, {"a": "2", "b": 3}, "a: invalid-request"),
        (SUM, {"a": 2}, "b: invalid-request"),
        (SUM, {"a": 2, "b": 3, "c": 4}, "c: invalid-request"),
        (CSV, {"num_rows": 0}, "num_rows: invalid-request"),
        (CSV, {"num_rows": 50_000_001}, "num_rows: invalid-request"),
        (CSV, {"filename": "../vendas.csv"}, "filename: invalid-request"),
        (CSV, {"file_id": f"sha256:{'0' * 64}"}, "file_id: invalid-request"),
        (AGGREGATE, {"month": "2025-13"}, "month: invalid-request"),
        (REPORT, {"email": "ana@empresa.com", "report_type": "x"}, "report_type: invalid-request"),
        (REPORT, {"email": "eve@example.org"}, "email: recipient-not-allowed"),
        (FETCH, {"url": "http://elsewhere.example/"}, "url: host-not-allowed"),
        (FETCH, {"url": "ftp://httpbin.test/"}, "url: invalid-request"),
        (FAN_OUT, {"urls": ["http://a.test/", "http://x.example/"]}, "urls.1: host-not-allowed"),
        (f"{SUM}?delay=-1", {"a": 2, "b": 3}, "delay: invalid-request"),
        (f"{SUM}?dealy=5", {"a": 2, "b": 3}, "dealy: invalid-request"),
        (f"{SUM}?run_at=tomorrow", {"a": 2, "b": 3}, "run_at: invalid-request"),
        (f"{SUM}?run_at=2999-01-01T00:00:00Z", {"a": 2, "b": 3}, "run_at: invalid-request"),
        (f"{SUM}?delay=5&run_at=2026-01-01T00:00:00Z", {"a": 2, "b": 3}, "delay: invalid-request"),
    ],
)
def test_bad_input_is_a_422_that_names_the_field_and_nothing_is_queued(
    api: httpx2.Client, traces: Traces, path: str, body: object, wrong: str
) -> None:
    field, _, code = wrong.partition(": ")
    before = traces()
    document = problem(api.post(path, json=body), 422, code)
    assert field in [error["field"] for error in document["errors"]]
    assert traces() == before


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/send-task/?a=2", "b"),
        ("/send-task/?a=2&b=x", "b"),
        ("/process-csv?num_rows=0", "num_rows"),
        ("/process-csv?filename=..%2Fa.csv", "filename"),
        ("/aggregate?month=2025", "month"),
        ("/send-report?report_type=x", "report_type"),
        ("/send-report?email=eve%40example.org", "email"),
    ],
)
def test_bad_input_on_the_demonstration_routes_is_a_422_too(
    api: httpx2.Client, traces: Traces, path: str, field: str
) -> None:
    before = traces()
    answer = api.post(path)
    assert answer.status_code == 422
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert traces() == before


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[1", b"{'a': 1}"])
def test_body_that_is_no_json_is_a_400(api: httpx2.Client, traces: Traces, body: bytes) -> None:
    before = traces()
    headers = {"Content-Type": "application/json"}
    problem(api.post(SUM, content=body, headers=headers), 400, "malformed-body")
    assert traces() == before


@pytest.mark.parametrize("path", [SUM, "/v1/batches"])
def test_body_above_its_limit_is_a_413(api: httpx2.Client, path: str) -> None:
    body = b"[" + b" " * MAX_BODY_BYTES + b"]"
    headers = {"Content-Type": "application/json"}
    document = problem(api.post(path, content=body, headers=headers), 413, "body-too-large")
    assert "MAX_BODY_BYTES" in document["detail"]


def test_scheduled_job_is_shown_as_such(api: httpx2.Client) -> None:
    answer = api.post(f"{SUM}?delay=3600", json={"a": 2, "b": 3})
    assert answer.json()["state"] == "scheduled"
    shown = api.get(f"/v1/jobs/{accepted(answer)}").json()
    assert (shown["state"], shown["run_at"]) == ("scheduled", answer.json()["run_at"])


# --- batches ---


def test_batch_answers_for_each_of_its_items(api: httpx2.Client, jobs: Jobs) -> None:
    items = [
        {"task": "cpu.sum_numbers", "args": {"a": 1, "b": 2}},
        {"task": "cpu.sum_numbers", "args": {"a": "x", "b": 2}},
        {"task": "nothing"},
    ]
    answer = api.post("/v1/batches", json=items)
    assert answer.status_code == 202
    body = answer.json()
    assert (body["accepted"], body["refused"]) == (1, 2)
    first, second, third = body["items"]
    assert first["id"] in jobs.ids()
    assert second["problem"]["errors"][0]["field"] == "a"
    assert third["problem"]["code"] == "task-not-found"
    shown = api.get(answer.headers["Location"]).json()
    assert (shown["total"], shown["state"], shown["counts"]) == (1, "queued", {"queued": 1})


def test_batch_may_be_a_line_for_each_item(api: httpx2.Client) -> None:
    lines = '{"task": "cpu.sum_numbers", "args": {"a": 1, "b": 2}}\n\n{not json}\n'
    headers = {"Content-Type": "application/x-ndjson"}
    body = api.post("/v1/batches", content=lines, headers=headers).json()
    assert (body["accepted"], body["refused"]) == (1, 1)
    assert body["items"][1]["problem"]["code"] == "malformed-body"


@pytest.mark.parametrize("count", [0, MAX_BATCH_ITEMS + 1])
def test_batch_that_is_empty_or_too_long_is_refused_whole(
    api: httpx2.Client, traces: Traces, count: int
) -> None:
    before = traces()
    items = [{"task": "cpu.sum_numbers", "args": {"a": 1, "b": 2}}] * count
    document = problem(api.post("/v1/batches", json=items), 422, "invalid-request")
    assert "MAX_BATCH_ITEMS" in document["detail"]
    assert traces() == before


def test_batch_without_a_valid_item_is_refused_whole(api: httpx2.Client, traces: Traces) -> None:
    before = traces()
    problem(api.post("/v1/batches", json=[{"task": "nothing"}, 5]), 422, "invalid-request")
    assert traces() == before


# --- uploads ---


def upload(api: httpx2.Client, filename: str, content: bytes) -> dict[str, Any]:
    answer = api.post("/v1/files", params={"filename": filename}, content=content)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/v1/files/{found['id']}"
    return found


def test_form_and_bare_body_store_the_same_file(api: httpx2.Client, place: Place) -> None:
    bare = upload(api, "a.csv", b"x,y\n1,2\n")
    form = api.post("/v1/files", files={"file": ("b.csv", b"x,y\n1,2\n", "text/csv")})
    assert form.status_code == 201
    assert form.json()["id"] == bare["id"]
    assert form.json()["filename"] == "b.csv"
    assert api.get(f"/v1/files/{bare['id']}").json()["size_bytes"] == 8
    stored = open_storage(place.storage_url)
    key = f"uploads/content/{bare['id'].replace(':', '-')}"
    assert bytes(obstore.get(stored, key).bytes()) == b"x,y\n1,2\n"


def test_name_stands_for_its_newest_upload(api: httpx2.Client, jobs: Jobs) -> None:
    old = upload(api, "corrected.csv", b"old")["id"]
    first = accepted(api.post(CSV, json={"filename": "corrected.csv"}))
    new = upload(api, "corrected.csv", b"new")["id"]
    second = accepted(api.post(CSV, json={"filename": "corrected.csv"}))
    assert jobs.record(first).args["file_id"] == old
    assert jobs.record(second).args["file_id"] == new
    assert api.get(f"/v1/files/{old}").status_code == 200


def test_name_that_nobody_uploaded_stands_for_a_sample(api: httpx2.Client, jobs: Jobs) -> None:
    job_id = accepted(api.post(CSV, json={"filename": "never.csv"}))
    assert jobs.record(job_id).args["file_id"] is None


@pytest.mark.parametrize("size", [0, 1, MAX_UPLOAD_BYTES])
def test_upload_up_to_the_limit_is_stored(api: httpx2.Client, size: int) -> None:
    assert upload(api, "whole.bin", b"x" * size)["size_bytes"] == size


@pytest.mark.parametrize("filename", ["", "../a.csv", "a/b.csv", "..", "x" * 201])
def test_upload_with_a_path_for_a_name_is_refused(api: httpx2.Client, filename: str) -> None:
    answer = api.post("/v1/files", params={"filename": filename}, content=b"x")
    assert problem(answer, 422, "invalid-request")["errors"][0]["field"] == "filename"


def test_upload_without_a_name_says_how_to_give_one(api: httpx2.Client) -> None:
    document = problem(api.post("/v1/files", content=b"x"), 422, "invalid-request")
    assert "?filename=" in document["detail"]


def test_form_without_a_file_is_refused(api: httpx2.Client) -> None:
    answer = api.post("/v1/files", files={"other": ("a.csv", b"x")})
    assert problem(answer, 422, "invalid-request")["errors"][0]["field"] == "file"


def test_form_that_is_none_is_refused(api: httpx2.Client) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    problem(api.post("/v1/files", content=b"nothing", headers=headers), 400, "malformed-body")


def test_unknown_file_is_a_404(api: httpx2.Client) -> None:
    problem(api.get(f"/v1/files/sha256:{'0' * 64}"), 404, "file-not-found")


@pytest.mark.parametrize(
    ("headers", "prefix"),
    [
        ({"Content-Type": "application/octet-stream"}, b""),
        (
            {"Content-Type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n',
        ),
    ],
    ids=["bare", "form"],
)
def test_upload_without_end_is_refused_while_it_streams(
    api: httpx2.Client, headers: dict[str, str], prefix: bytes
) -> None:
    sent, answer = send_for_ever(api, "/v1/files?filename=endless.bin", headers, prefix)
    assert b"413" in answer.split(b"\r\n")[0]
    assert b'"code":"body-too-large"' in answer
    assert sent < SOCKET_BUFFERS_BYTES


def send_for_ever(
    api: httpx2.Client, path: str, headers: dict[str, str], prefix: bytes
) -> tuple[int, bytes]:
    """Send a body that never ends until the server answers; return bytes sent and answer."""
    address = urlsplit(str(api.base_url))
    lines = [f"POST {path} HTTP/1.1", "Host: api", "Transfer-Encoding: chunked"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    sent = 0
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        chunk = prefix or b"x"
        while sent < SOCKET_BUFFERS_BYTES and not select.select([connection], [], [], 0)[0]:
            try:
                connection.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            except ConnectionError:
                break
            sent += len(chunk)
            chunk = b"x" * 16_384
        answer = b""
        while not answer.endswith(b"}"):  # a problem document's end
            received = connection.recv(64_000)
            assert received, answer
            answer += received
        return sent, answer


# --- artifacts ---


@pytest.fixture
def artifact(api: httpx2.Client, place: Place) -> str:
    """Path of an artifact of a hundred bytes."""
    job_id = accepted(api.post(SUM, json={"a": 2, "b": 3}))
    key = artifact_key(job_id, "data.bin")
    obstore.put(open_storage(place.storage_url), key, bytes(range(100)))
    return f"/v1/jobs/{job_id}/artifacts/data.bin"


def test_artifact_is_listed_and_downloaded(api: httpx2.Client, artifact: str) -> None:
    (listed,) = api.get(artifact.rpartition("/")[0]).json()["artifacts"]
    assert (listed["name"], listed["size_bytes"], listed["url"]) == ("data.bin", 100, artifact)
    answer = api.get(artifact)
    assert answer.status_code == 200
    assert answer.content == bytes(range(100))
    assert answer.headers["Content-Length"] == "100"


def test_interrupted_download_is_continued(api: httpx2.Client, artifact: str) -> None:
    etag = api.get(artifact).headers["ETag"]
    rest = api.get(artifact, headers={"Range": "bytes=40-", "If-Range": etag})
    assert rest.status_code == 206
    assert rest.headers["Content-Range"] == "bytes 40-99/100"
    assert rest.content == bytes(range(40, 100))


def test_changed_artifact_is_downloaded_from_its_beginning(
    api: httpx2.Client, artifact: str
) -> None:
    rest = api.get(artifact, headers={"Range": "bytes=40-", "If-Range": '"another"'})
    assert rest.status_code == 200
    assert rest.content == bytes(range(100))


def test_artifact_that_the_client_has_is_not_sent(api: httpx2.Client, artifact: str) -> None:
    etag = api.get(artifact).headers["ETag"]
    answer = api.get(artifact, headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


def test_range_outside_the_artifact_is_a_416_with_its_size(
    api: httpx2.Client, artifact: str
) -> None:
    answer = api.get(artifact, headers={"Range": "bytes=100-"})
    problem(answer, 416, "range-not-satisfiable")
    assert answer.headers["Content-Range"] == "bytes */100"


@pytest.mark.parametrize("name", ["missing", "..%2Fdata.bin", "%2e%2e"])
def test_artifact_that_is_not_there_is_a_404(api: httpx2.Client, artifact: str, name: str) -> None:
    assert api.get(f"{artifact.rpartition('/')[0]}/{name}").status_code == 404


# --- waiting, with a worker ---


@pytest.mark.usefixtures("worker")
def test_client_that_prefers_to_wait_gets_the_result(api: httpx2.Client) -> None:
    answer = api.post(FETCH, json={"url": "http://answers.test/"}, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert "Retry-After" not in answer.headers
    assert answer.json()["state"] == "succeeded"
    assert answer.json()["result"]["url"] == "http://answers.test/"


@pytest.mark.usefixtures("worker")
def test_client_that_prefers_to_wait_gets_the_failure(api: httpx2.Client) -> None:
    answer = api.post(FETCH, json={"url": "http://rejects.test/"}, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["error"]["code"]) == ("failed", "job-rejected")
    refused = api.get(f"/v1/jobs/{answer.json()['id']}/result")
    problem(refused, 409, "job-has-no-result")


def test_client_that_waits_in_vain_has_the_job_all_the_same(api: httpx2.Client) -> None:
    answer = api.post(SUM, json={"a": 2, "b": 3}, headers={"Prefer": "wait=1"})
    job_id = accepted(answer)
    assert answer.json()["state"] == "queued"
    problem(api.get(f"/v1/jobs/{job_id}/result"), 409, "job-not-finished")


@pytest.mark.usefixtures("worker")
def test_long_poll_answers_when_the_job_changes(
    api: httpx2.Client, place: Place, jobs: Jobs
) -> None:
    job_id = accepted(api.post(FETCH, json={"url": "http://waits.test/poll"}))
    jobs.wait_for(job_id, JobState.RUNNING)
    with ThreadPoolExecutor(1) as client:
        started = time.monotonic()
        polling = client.submit(api.get, f"/v1/jobs/{job_id}?wait=60")
        (place.folder / "poll.open").touch()
        answer = polling.result(70)
    assert answer.json()["state"] == "succeeded"
    assert time.monotonic() - started < 30


def test_long_poll_answers_in_the_end_when_nothing_changes(api: httpx2.Client) -> None:
    job_id = accepted(api.post(SUM, json={"a": 2, "b": 3}))
    started = time.monotonic()
    answer = api.get(f"/v1/jobs/{job_id}?wait=1")
    assert time.monotonic() - started >= 1
    assert answer.json()["state"] == "queued"


@pytest.mark.parametrize("wait", ["-1", "61", "soon"])
def test_nobody_polls_longer_than_a_minute(api: httpx2.Client, wait: str) -> None:
    answer = api.get(f"/v1/jobs/nobody?wait={wait}")
    assert problem(answer, 422, "invalid-request")["errors"][0]["field"] == "wait"


@pytest.mark.usefixtures("worker")
def test_many_clients_wait_for_their_own_jobs_at_the_same_time(api: httpx2.Client) -> None:
    def ask(number: int) -> str:
        url = f"http://answers.test/{number}"
        answer = api.post(FETCH, json={"url": url}, headers={"Prefer": "wait=60"})
        found: str = answer.json()["result"]["url"]
        return found

    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(ask, range(60)))
    assert answers == [f"http://answers.test/{number}" for number in range(60)]


@pytest.mark.usefixtures("worker")
def test_large_result_reads_like_any_other(api: httpx2.Client) -> None:
    answer = api.post(
        FETCH, json={"url": "http://writes.test/70000"}, headers={"Prefer": "wait=60"}
    )
    job = f"/v1/jobs/{answer.json()['id']}"
    assert api.get(f"{job}/result").json()["content_type"] == "x" * 70_000
    (listed,) = api.get(f"{job}/artifacts").json()["artifacts"]
    assert listed["name"] == "result.json"


@pytest.mark.usefixtures("worker")
def test_lanes_show_who_works_and_who_does_not(api: httpx2.Client) -> None:
    def lanes() -> dict[str, Any]:
        return {lane["lane"]: lane for lane in api.get("/v1/lanes").json()["lanes"]}

    assert eventually(lambda: lanes()["io"]["consumers"] == 1, 30)
    assert lanes()["io"]["no_consumers"] is False
    assert lanes()["cpu"]["no_consumers"] is True
    stats = api.get("/queue/stats").json()
    assert stats["total_workers"] == 1
    assert set(stats["queues"]) == {"jobs.io", "jobs.cpu", "jobs.dead"}


# --- when something is missing ---


def test_readiness_names_what_is_missing_and_returns_with_it(
    rabbitmq: RabbitMQ, redis: Redis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("readiness")
    with (
        new_place(rabbitmq, redis, folder) as place,
        Proxy(place.broker_url) as broker,
        Proxy(place.result_url) as results,
    ):
        Broker(place).declare()
        proxied = replace(place, broker_url=broker.url, result_url=results.url)
        with run_api(proxied) as api:
            assert eventually(lambda: unready(api) == set(), 30)
            for proxy, name in ((broker, "broker"), (results, "results")):
                with cut(proxy):
                    assert eventually(lambda: unready(api) == {name}, 30)  # noqa: B023 - used at once
                    assert api.get("/livez").status_code == 200
                    problem(api.post(SUM, json={"a": 1, "b": 1}), 503, f"{name}-unavailable")
                assert eventually(lambda: unready(api) == set(), 30)
                accepted(api.post(SUM, json={"a": 1, "b": 1}))


def test_api_starts_before_the_servers_that_it_needs(place: Place, tmp_path: Path) -> None:
    nowhere = Place(
        broker_url="amqp://user:password@127.0.0.1:1//",
        result_url="redis://127.0.0.1:1/0",
        management_url=place.management_url,
        folder=tmp_path,
    )
    with run_api(nowhere) as api:
        assert unready(api) == {"broker", "results"}
        problem(api.get("/v1/jobs/job-42"), 503, "results-unavailable")


def test_reason_of_unreadiness_shows_no_password(place: Place, tmp_path: Path) -> None:
    nowhere = Place(
        broker_url="amqp://user:hidden@127.0.0.1:1//",
        result_url="redis://:hidden@127.0.0.1:1/0",
        management_url=place.management_url,
        folder=tmp_path,
    )
    with run_api(nowhere) as api:
        for path in ("/readyz", "/v1/jobs/job-42"):
            assert "hidden" not in api.get(path).text
        assert "hidden" not in api.post(SUM, json={"a": 1, "b": 1}).text


def unready(api: httpx2.Client) -> set[str]:
    """Return what the API says is missing."""
    answer = api.get("/readyz")
    body = answer.json()
    missing = {name for name in ("broker", "results", "storage") if not body[name]["ready"]}
    assert all(body[name]["reason"] for name in missing)
    assert (answer.status_code, body["ready"]) == ((503, False) if missing else (200, True))
    return missing


@contextmanager
def cut(proxy: Proxy) -> Iterator[None]:
    proxy.cut()
    yield
    proxy.restore()
