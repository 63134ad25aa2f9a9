import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from api.errors import types
from api.errors.openapi import responses
from api.errors.rendering import register
from api.errors.types import ApiError, BrokerUnavailable, InvalidField, InvalidRequest, JobNotFound
from twinlane_sdk.fields import Month
from twinlane_tasks.csv import ProcessCsvArgs
from twinlane_tasks.sums import SumArgs

ALL_ERRORS = [
    error
    for error in vars(types).values()
    if isinstance(error, type) and issubclass(error, ApiError) and hasattr(error, "code")
]


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """A small application with the errors of the API and some ways to get them."""
    app = FastAPI()
    register(app)

    @app.post("/sums")
    async def sums(args: SumArgs) -> int:
        return len(str(args.a + args.b))

    @app.post("/files")
    async def files(args: ProcessCsvArgs) -> str:
        return args.filename

    @app.get("/months")
    async def months(month: Month, count: int = 1) -> str:
        return month * count

    @app.get("/jobs/{job_id}")
    async def jobs(job_id: str) -> None:
        raise JobNotFound(job_id)

    @app.get("/busy")
    async def busy() -> None:
        raise BrokerUnavailable("RabbitMQ does not answer.")

    @app.get("/bug")
    async def bug() -> None:
        raise KeyError("a secret")

    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Check the document's form and return it."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["status"], document["code"]) == (status, status, code)
    assert document["type"] == f"/docs#problem-{code}"
    assert document["title"]
    assert document["detail"]
    return document


async def refused(client: httpx2.AsyncClient, path: str, body: str) -> list[dict[str, Any]]:
    """POST a JSON text and return the errors of the refusal."""
    headers = {"Content-Type": "application/json"}
    answer = await client.post(path, content=body.encode(), headers=headers)
    found: list[dict[str, Any]] = problem(answer, 422, "invalid-request")["errors"]
    return found


async def test_every_wrong_field_is_named_with_value_and_rule(client: httpx2.AsyncClient) -> None:
    found = await refused(client, "/sums", '{"a": "2", "colour": "blue"}')
    assert {error["field"]: error.get("value") for error in found} == {
        "a": "2",
        "b": None,
        "colour": "blue",
    }
    rules = {error["field"]: error["rule"] for error in found}
    assert rules["a"] == "Input should be a valid integer"
    assert rules["b"] == "Field required"


async def test_wrong_query_parameter_is_named_with_value_and_rule(
    client: httpx2.AsyncClient,
) -> None:
    answer = await client.get("/months", params={"month": "2025-13", "count": "x"})
    found = problem(answer, 422, "invalid-request")["errors"]
    assert [(error["field"], error["value"]) for error in found] == [
        ("month", "2025-13"),
        ("count", "x"),
    ]


async def test_rules_of_our_own_read_without_their_library(client: httpx2.AsyncClient) -> None:
    (error,) = await refused(client, "/files", '{"filename": "../a.csv"}')
    assert error["rule"] == "must be a plain file name, without a path or '..'"


async def test_detail_says_everything_in_one_line(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/files", json={"filename": "", "num_rows": 0})
    detail = problem(answer, 422, "invalid-request")["detail"]
    assert "filename: " in detail
    assert "num_rows: " in detail


async def test_long_value_is_shortened(client: httpx2.AsyncClient) -> None:
    (error,) = await refused(client, "/files", json.dumps({"filename": "x" * 1_000_000}))
    assert error["value"] == "x" * 200 + "…"


async def test_long_name_of_a_field_is_shortened(client: httpx2.AsyncClient) -> None:
    body = json.dumps({"x" * 1_000_000: 1}).encode()
    headers = {"Content-Type": "application/json"}
    answer = await client.post("/files", content=body, headers=headers)
    assert len(answer.content) < 2_000
    (error,) = problem(answer, 422, "invalid-request")["errors"]
    assert error["field"] == "x" * 200 + "…"


async def test_thousand_wrong_fields_are_not_all_repeated(client: httpx2.AsyncClient) -> None:
    body = json.dumps({f"field{n}": n for n in range(10_000)})
    found = await refused(client, "/files", body)
    assert len(found) <= 100


async def test_integer_of_too_many_digits_is_refused_without_repeating_it(
    client: httpx2.AsyncClient,
) -> None:
    (error,) = await refused(client, "/sums", f'{{"a": 1{"0" * 4_100}, "b": 1}}')
    assert error["field"] == "a"
    assert "4,000 digits" in error["rule"]
    assert len(error["value"]) <= 201


async def test_integer_that_python_does_not_read_is_a_bad_body(client: httpx2.AsyncClient) -> None:
    body = b'{"a": 1' + b"0" * 5_000 + b', "b": 1}'
    answer = await client.post("/sums", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_number_that_json_does_not_have_is_refused_as_any_other(
    client: httpx2.AsyncClient, number: str
) -> None:
    found = await refused(client, "/sums", f'{{"a": {number}, "b": 1}}')
    assert [error["field"] for error in found] == ["a"]


@pytest.mark.parametrize("body", [r'{"filename": "\ud800"}', r'{"\ud800": 1}'])
async def test_text_that_is_no_unicode_is_refused_as_any_other(
    client: httpx2.AsyncClient, body: str
) -> None:
    (error,) = await refused(client, "/files", body)
    assert "\\ud800" in json.dumps(error)


async def test_nested_value_is_shown_as_text(client: httpx2.AsyncClient) -> None:
    (error,) = await refused(client, "/sums", '{"a": {"deep": [1]}, "b": 1}')
    assert "deep" in str(error["value"])


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b"a=1&b=2"])
async def test_body_that_is_no_json_is_a_problem(client: httpx2.AsyncClient, body: bytes) -> None:
    answer = await client.post("/sums", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_missing_job_is_named(client: httpx2.AsyncClient) -> None:
    detail = problem(await client.get("/jobs/job-42"), 404, "job-not-found")["detail"]
    assert "job-42" in detail


async def test_unknown_path_and_wrong_method_are_problems_too(client: httpx2.AsyncClient) -> None:
    problem(await client.get("/nowhere"), 404, "not-found")
    answer = await client.delete("/busy")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET"


async def test_unavailable_server_says_when_to_come_back(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/busy")
    problem(answer, 503, "broker-unavailable")
    assert int(answer.headers["Retry-After"]) > 0


async def test_bug_shows_the_client_nothing_of_the_inside(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/bug")
    problem(answer, 500, "internal-error")
    assert "secret" not in answer.text
    assert "KeyError" not in answer.text


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.__name__)
def test_every_error_has_a_stable_code_a_title_and_a_status(error: type[ApiError]) -> None:
    assert error.code == error.code.lower().replace(" ", "-")
    assert error.title[0].isupper()
    assert error.status >= 400
    assert error.__doc__


def test_codes_are_not_shared_by_errors() -> None:
    codes = [error.code for error in ALL_ERRORS]
    assert len(set(codes)) == len(codes)


def test_every_503_says_when_to_come_back() -> None:
    assert all(error.retry_after_seconds for error in ALL_ERRORS if error.status == 503)


def test_errors_of_a_route_are_described_by_status() -> None:
    described = responses(JobNotFound, BrokerUnavailable)
    assert set(described) == {404, 503}
    assert "job-not-found" in described[404]["description"]


def test_invalid_request_keeps_its_errors() -> None:
    error = InvalidRequest([InvalidField(field="month", value="x", rule="must be YYYY-MM")])
    assert error.detail == "month: must be YYYY-MM"
    assert error.members["errors"] == [{"field": "month", "value": "x", "rule": "must be YYYY-MM"}]
