import json
from typing import Any

import pytest

from e2e.client import Api, Json, problem, unique
from e2e.conftest import Stack
from e2e.inbox import only_mail_to

NDJSON = {"Content-Type": "application/x-ndjson"}
MAX_ITEMS = 10_000


def fetch(url: str) -> Json:
    return {"task": "io.fetch_url", "args": {"url": url}}


def test_batch_of_a_json_array_runs_every_item_and_ends_succeeded(api: Api, httpbin: str) -> None:
    accepted = api.submit_batch([fetch(f"{httpbin}/status/{code}") for code in (200, 404, 204)])

    assert (accepted["accepted"], accepted["refused"]) == (3, 0)
    batch = api.ended_batch(accepted["id"])
    assert batch["state"] == "succeeded"
    assert batch["counts"] == {"succeeded": 3}
    assert batch["finished_at"] > batch["submitted_at"]
    assert [job["id"] for job in batch["jobs"]] == [item["id"] for item in accepted["items"]]
    results = [api.succeeded(job["id"]) for job in batch["jobs"]]
    assert [result["status"] for result in results] == [200, 404, 204]


def test_batch_of_ndjson_takes_a_job_a_line_and_ignores_blank_lines(api: Api, httpbin: str) -> None:
    lines = [json.dumps(fetch(f"{httpbin}/delay/0")), "", '{"task": "cpu.aggregate_sales"}', ""]

    answer = api.post("/v1/batches", content="\n".join(lines), headers=NDJSON)

    assert answer.status_code == 202
    accepted = answer.json()
    assert answer.headers["Location"] == f"/v1/batches/{accepted['id']}"
    batch = api.ended_batch(accepted["id"])
    assert [job["task"] for job in batch["jobs"]] == ["io.fetch_url", "cpu.aggregate_sales"]
    assert batch["state"] == "succeeded"


def test_bad_items_get_their_problem_and_the_good_ones_run(api: Api, httpbin: str) -> None:
    lines = [
        json.dumps(fetch(f"{httpbin}/delay/0")),
        "{this is no JSON",
        '"nor is this an item"',
        '{"task": "io.fly", "args": {}}',
        '{"task": "cpu.sum_numbers", "args": {"a": "two", "b": 3}}',
        json.dumps(fetch("http://example.org/")),
        '{"task": "cpu.sum_numbers", "args": {"a": 2, "b": 3}, "priority": 9}',
        '{"task": "cpu.sum_numbers", "args": {"a": 2, "b": 3}, "delay": 1e12}',
        r'{"task": "io.\ud800"}',
        "[" * 100_000,
    ]

    answer = api.post("/v1/batches", content="\n".join(lines), headers=NDJSON)

    assert answer.status_code == 202
    accepted = answer.json()
    assert (accepted["accepted"], accepted["refused"]) == (1, 9)
    good, *bad = accepted["items"]
    assert [item["index"] for item in accepted["items"]] == list(range(10))
    assert [item["problem"]["code"] for item in bad] == [
        "malformed-body",
        "invalid-request",
        "task-not-found",
        "invalid-request",
        "host-not-allowed",
        "invalid-request",
        "invalid-request",
        "task-not-found",
        "malformed-body",
    ]
    assert bad[3]["problem"]["errors"][0]["field"] == "a"
    assert bad[5]["problem"]["errors"][0]["field"] == "priority"
    assert bad[6]["problem"]["errors"][0]["field"] == "delay"
    assert not any("id" in item for item in bad)
    batch = api.ended_batch(accepted["id"])
    assert [job["id"] for job in batch["jobs"]] == [good["id"]]
    assert batch["state"] == "succeeded"


def test_batch_with_a_failing_job_ends_failed_when_all_have_ended(api: Api, httpbin: str) -> None:
    accepted = api.submit_batch(
        [fetch(f"{httpbin}/delay/1"), fetch(f"{httpbin}/redirect/20"), fetch(f"{httpbin}/delay/0")]
    )

    batch = api.ended_batch(accepted["id"])

    assert batch["state"] == "failed"
    assert batch["counts"] == {"succeeded": 2, "failed": 1}


def test_batch_of_reports_mails_one_to_each_recipient(api: Api, stack: Stack) -> None:
    addresses = [unique("filial", "@empresa.com") for _ in range(3)]

    accepted = api.submit_batch(
        {"task": "io.send_report", "args": {"email": address, "report_type": "vendas"}}
        for address in addresses
    )

    assert api.ended_batch(accepted["id"])["state"] == "succeeded"
    for address, item in zip(addresses, accepted["items"], strict=True):
        assert item["id"] in only_mail_to(stack, address)["Message-ID"]


def test_delayed_item_keeps_its_batch_scheduled(api: Api, httpbin: str) -> None:
    accepted = api.submit_batch([{**fetch(f"{httpbin}/delay/0"), "delay": 3_600}])

    answer = api.get(f"/v1/batches/{accepted['id']}")

    assert answer.json()["state"] == "scheduled"
    assert answer.json()["finished_at"] is None
    assert "Retry-After" in answer.headers


def test_thousand_items_are_accepted_at_once_and_all_run(api: Api, httpbin: str) -> None:
    accepted = api.submit_batch([fetch(f"{httpbin}/status/200?item={n}") for n in range(1_000)])

    assert accepted["accepted"] == 1_000
    batch = api.ended_batch(accepted["id"])
    assert batch["state"] == "succeeded"
    assert batch["counts"] == {"succeeded": 1_000}
    assert len({job["id"] for job in batch["jobs"]}) == 1_000
    last = api.succeeded(accepted["items"][-1]["id"])
    assert last["url"].endswith("?item=999")


@pytest.mark.parametrize("items", [[], [{}] * (MAX_ITEMS + 1)], ids=["empty", "above the limit"])
def test_batch_of_a_wrong_size_is_refused_whole(api: Api, items: list[Any]) -> None:
    refused = problem(api.post("/v1/batches", json=items), 422, "invalid-request")

    (error,) = refused["errors"]
    assert error["field"] == "body"
    assert error["value"] == f"{len(items):,} items"
    assert "10,000" in error["rule"]


def test_batch_of_only_bad_items_is_refused_and_names_each(api: Api) -> None:
    items = [{"task": "io.fly"}, {"task": "cpu.sum_numbers", "args": {"a": 1}}]

    refused = problem(api.post("/v1/batches", json=items), 422, "invalid-request")

    assert [error["field"] for error in refused["errors"]] == ["items.0", "items.1"]
    assert "io.fly" in refused["errors"][0]["rule"]
    assert "b: " in refused["errors"][1]["rule"]


@pytest.mark.parametrize(
    "body",
    [b"[{]", b"\xff\xfe", b"", b"[" * 100_000],
    ids=["no JSON", "no UTF-8", "nothing", "nested without end"],
)
def test_body_that_cannot_be_read_is_a_problem(api: Api, body: bytes) -> None:
    answer = api.post("/v1/batches", content=body, headers={"Content-Type": "application/json"})

    problem(answer, 400, "malformed-body")


def test_body_that_is_no_array_is_a_problem(api: Api) -> None:
    refused = problem(api.post("/v1/batches", json={"task": "io.fly"}), 422, "invalid-request")

    assert refused["errors"] == [
        {"field": "body", "value": "dict", "rule": "must be an array of items"}
    ]


def test_unknown_batch_is_not_found(api: Api) -> None:
    problem(api.get(f"/v1/batches/{unique('nothing')}"), 404, "batch-not-found")
