"""Every refusal is a 4xx problem that names field, value and rule, and queues nothing."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from e2e.client import Api, Json, problem, unique
from e2e.flower import Flower

DIGITS_TOO_MANY: Final = 10**4_000
HALF_A_CHARACTER: Final = "\ud800"
MAX_BODY_BYTES: Final = 16 * 1024**2
ECHOED_CHARACTERS: Final = 200
UNKNOWN_FILE: Final = f"sha256:{'0' * 64}"


@dataclass(frozen=True)
class Bad:
    """A request and what its refusal says: the field, its value, and a word of the rule."""

    path: str
    field_name: str
    value: Any
    rule: str
    body: Json | None = None
    params: dict[str, Any] = field(default_factory=dict)
    code: str = "invalid-request"

    def __str__(self) -> str:
        shown = str(self.value) if len(str(self.value)) < 40 else "long"
        return f"{self.path.removeprefix('/v1/tasks/')} {self.field_name}={shown}"


def task(name: str, body: Json, field: str, rule: str, **more: Any) -> Bad:  # noqa: ANN401 - JSON
    value = more.pop("value", body.get(field))
    return Bad(f"/v1/tasks/{name}/jobs", field, value, rule, body, **more)


def route(path: str, params: dict[str, Any], rule: str, **more: Any) -> Bad:  # noqa: ANN401 - JSON
    ((name, value),) = list(params.items())[-1:]
    return Bad(path, name, value, rule, params=params, **more)


def option(params: dict[str, Any], name: str, rule: str) -> Bad:
    path = "/v1/tasks/cpu.sum_numbers/jobs"
    return Bad(path, name, params[name], rule, {"a": 1, "b": 2}, params)


WRONG_TYPES: Final = [
    task("cpu.sum_numbers", {"a": "2", "b": 3}, "a", "integer"),
    task("cpu.sum_numbers", {"a": 2.5, "b": 3}, "a", "integer"),
    task("cpu.sum_numbers", {"a": True, "b": 3}, "a", "integer"),
    task("cpu.sum_numbers", {"a": None, "b": 3}, "a", "integer"),
    task("cpu.sum_numbers", {"a": 2}, "b", "required"),
    task("cpu.sum_numbers", {"a": 2, "b": DIGITS_TOO_MANY}, "b", "4,000 digits"),
    task("cpu.process_csv", {"num_rows": "many"}, "num_rows", "integer"),
    task("io.fan_out", {"urls": "http://127.0.0.1/"}, "urls", "list"),
    task("io.fan_out", {"urls": []}, "urls", "at least 1"),
    route("/send-task/", {"b": 1, "a": "two"}, "integer"),
    route("/send-task/", {"b": 1, "a": "1.5"}, "integer"),
    route("/send-task/", {"b": 1, "a": str(DIGITS_TOO_MANY)}, "4,000 digits"),
    route("/send-task/", {"a": 1, "b": ""}, "integer"),
]
UNKNOWN_FIELDS: Final = [
    task("cpu.sum_numbers", {"a": 1, "b": 2, "c": 3}, "c", "not permitted"),
    task("io.draw_number", {"above": 3}, "above", "not permitted"),
    task("cpu.aggregate_sales", {"regiao": "sul"}, "regiao", "not permitted"),
    route("/process-csv", {"file": "vendas.csv"}, "known are: filename, num_rows"),
    route("/exibir", {"n": 3}, "known are: none"),
    option({"delai": 3}, "delai", "known are: delay, run_at"),
]
CONTROL_CHARACTERS: Final = [
    task("cpu.aggregate_sales", {"region": "sul\0"}, "region", "control characters"),
]
ROWS: Final = [
    make
    for rows, rule in ((0, "greater than or equal to 1"), (50_000_001, "50000000"))
    for make in (
        task("cpu.process_csv", {"num_rows": rows}, "num_rows", rule),
        route("/process-csv", {"num_rows": rows}, rule),
    )
]
MONTHS: Final = [
    make
    for month in ("2025", "2025-1", "2025-13", "2025-00", "01-2025", "janeiro", "2025-01-01", "")
    for make in (
        task("cpu.aggregate_sales", {"month": month}, "month", "pattern"),
        route("/aggregate", {"month": month}, "pattern"),
    )
]
FILE_NAMES: Final = [
    make
    for name in ("../vendas.csv", "a/b.csv", "/etc/passwd", "..", "a\\b.csv", "C:\\vendas.csv")
    for make in (
        task("cpu.process_csv", {"filename": name}, "filename", "without a path"),
        route("/process-csv", {"filename": name}, "without a path"),
    )
]
STRANGE_FILE_NAMES: Final = [
    task("cpu.process_csv", {"filename": ""}, "filename", "at least 1"),
    task("cpu.process_csv", {"filename": "a\nb.csv"}, "filename", "control characters"),
    task("cpu.process_csv", {"filename": " a.csv"}, "filename", "spaces"),
    task("cpu.process_csv", {"filename": "x" * 201}, "filename", "at most 200"),
    task("cpu.process_csv", {"file_id": UNKNOWN_FILE}, "file_id", "is stored"),
    task("cpu.process_csv", {"file_id": "md5:0"}, "file_id", "pattern"),
]
REPORTS: Final = [
    task(
        "io.send_report",
        {"email": "a@empresa.com", "report_type": "lucros"},
        "report_type",
        "'vendas' or 'vendas_mensal'",
    ),
    route("/send-report", {"report_type": "lucros"}, "'vendas' or 'vendas_mensal'"),
    task("io.send_report", {"email": "nobody"}, "email", "not a valid email address"),
    route("/send-report", {"email": "nobody"}, "not a valid email address"),
]
RECIPIENTS: Final = [
    make
    for email in ("chefe@example.org", "a@sub.empresa.com", "a@naoempresa.com")
    for make in (
        task("io.send_report", {"email": email}, "email", "list", code="recipient-not-allowed"),
        route("/send-report", {"email": email}, "list", code="recipient-not-allowed"),
    )
]
HOSTS: Final = [
    task("io.fetch_url", {"url": url}, "url", rule, code="host-not-allowed")
    for url, rule in (
        ("http://example.org/", "'example.org'"),
        ("http://169.254.169.254/latest/meta-data", "'169.254.169.254'"),
        ("http://127.0.0.1.example.org/", "'127.0.0.1.example.org'"),
        ("http://127.0.0.1@example.org/", "user"),
        ("http://user:secret@127.0.0.1/", "user"),
    )
]
ADDRESSES: Final = [
    task("io.fetch_url", {"url": "ftp://127.0.0.1/"}, "url", "'http' or 'https'"),
    task("io.fetch_url", {"url": "file:///etc/passwd"}, "url", "'http' or 'https'"),
    task("io.fetch_url", {"url": "not an address"}, "url", "valid URL"),
    task(
        "io.fan_out",
        {"urls": ["http://example.org/"]},
        "urls.0",
        "list of allowed hosts",
        value="http://example.org/",
        code="host-not-allowed",
    ),
]
NO_TEXT: Final = [
    task("cpu.aggregate_sales", {"region": HALF_A_CHARACTER}, "region", "unicode"),
    task("cpu.process_csv", {"filename": HALF_A_CHARACTER}, "filename", "unicode"),
]
RANGES: Final = [
    task(
        "cpu.aggregate_sales",
        {"month": "2025-05", "until": "2025-04"},
        "body",
        "not after",
        value={"month": "2025-05", "until": "2025-04"},
    ),
]
OPTIONS: Final = [
    option({"delay": -1}, "delay", "greater than or equal to 0"),
    option({"delay": "soon"}, "delay", "number"),
    option({"delay": 366 * 86_400}, "delay", "less than or equal to"),
    option({"run_at": "tomorrow"}, "run_at", "datetime"),
    option({"run_at": "2030-01-01T00:00:00"}, "run_at", "timezone"),
    option({"run_at": "2999-01-01T00:00:00+00:00"}, "run_at", "365 days"),
    option({"run_at": "2026-01-01T00:00:00Z", "delay": 5.0}, "delay", "not both"),
]
EVERYTHING: Final = [
    *WRONG_TYPES,
    *UNKNOWN_FIELDS,
    *CONTROL_CHARACTERS,
    *ROWS,
    *MONTHS,
    *FILE_NAMES,
    *STRANGE_FILE_NAMES,
    *REPORTS,
    *RECIPIENTS,
    *HOSTS,
    *ADDRESSES,
    *NO_TEXT,
    *RANGES,
    *OPTIONS,
]


@pytest.mark.parametrize("bad", EVERYTHING, ids=str)
def test_refusal_names_field_value_and_rule(api: Api, bad: Bad) -> None:
    refused = _refusal(api, bad)

    error = next(error for error in refused["errors"] if error["field"] == bad.field_name)
    assert bad.rule in error["rule"]
    echoed = str(bad.value).encode(errors="backslashreplace").decode()[:ECHOED_CHARACTERS]
    assert str(error["value"]).removesuffix("…") == echoed
    assert bad.field_name in refused["detail"]


def test_unknown_task_is_not_found_and_the_known_ones_are_named(api: Api) -> None:
    refused = problem(api.post("/v1/tasks/cpu.fly/jobs", json={}), 404, "task-not-found")

    assert refused["task"] == "cpu.fly"
    assert "'cpu.fly'" in refused["detail"]
    assert "cpu.sum_numbers" in refused["detail"]
    problem(api.get("/v1/tasks/cpu.fly"), 404, "task-not-found")


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff", b"a=1&b=2", b"[" * 100_000, b'{"a": ' + b"9" * 5_000 + b"}"],
    ids=["half of a JSON", "no UTF-8", "a form", "nested without end", "too many digits"],
)
def test_body_that_is_no_json_is_a_problem(api: Api, body: bytes) -> None:
    answer = api.post(
        "/v1/tasks/cpu.sum_numbers/jobs",
        content=body,
        headers={"Content-Type": "application/json"},
    )

    problem(answer, 400, "malformed-body")


@pytest.mark.parametrize("path", ["/v1/tasks/cpu.sum_numbers/jobs", "/v1/batches"])
def test_body_above_the_limit_is_refused_with_the_limit(api: Api, path: str) -> None:
    headers = {"Content-Type": "application/json"}

    answer = api.post(path, content=b" " * (MAX_BODY_BYTES + 1), headers=headers)

    assert problem(answer, 413, "body-too-large")["limit_bytes"] == MAX_BODY_BYTES


@pytest.mark.parametrize("body", [b"[1, 2]", b'"a"', b"7", b"null"])
def test_body_that_is_no_object_is_a_problem(api: Api, body: bytes) -> None:
    answer = api.post(
        "/v1/tasks/cpu.sum_numbers/jobs",
        content=body,
        headers={"Content-Type": "application/json"},
    )

    (error,) = problem(answer, 422, "invalid-request")["errors"]
    assert error["field"] == "body"


def test_every_wrong_field_is_named_at_once(api: Api) -> None:
    body = {"filename": "../x", "num_rows": 0, "rows": 5}

    refused = problem(api.post("/v1/tasks/cpu.process_csv/jobs", json=body), 422, "invalid-request")

    assert [error["field"] for error in refused["errors"]] == ["filename", "num_rows", "rows"]


@pytest.mark.parametrize("wait", [-1, 61, "long"])
def test_wait_out_of_bounds_is_a_problem(api: Api, wait: object) -> None:
    answer = api.get(f"/v1/jobs/{unique('any')}", params={"wait": str(wait)})

    (error,) = problem(answer, 422, "invalid-request")["errors"]
    assert error["field"] == "wait"


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/sequential", {"n": 0}),
        ("/sequential", {"n": 1_000}),
        ("/sequential_celery", {"n": "ten"}),
        ("/sequential_celery", {"delay": 3_600}),
    ],
)
def test_calls_out_of_bounds_are_a_problem(api: Api, path: str, params: dict[str, Any]) -> None:
    (error,) = problem(api.get(path, params=params), 422, "invalid-request")["errors"]

    assert error["field"] in params


def test_unknown_path_and_wrong_method_are_problems_too(api: Api) -> None:
    problem(api.get("/v2/everything"), 404, "not-found")
    problem(api.get("/v1/tasks/cpu.sum_numbers/jobs"), 405, "method-not-allowed")


def test_nothing_of_what_is_refused_reaches_a_worker(
    api: Api, flower: Flower, httpbin: str
) -> None:
    before = flower.newest_tasks()

    for bad in EVERYTHING:
        _refusal(api, bad)
    problem(api.post("/v1/batches", json=[]), 422, "invalid-request")
    problem(api.post("/v1/batches", json=[{"task": "io.fly"}]), 422, "invalid-request")

    # A lane is first in, first out: what came before these has reached a worker by now.
    markers = {
        api.run("io.fetch_url", {"url": f"{httpbin}/delay/0"})["id"],
        api.run("cpu.aggregate_sales", {"region": unique("region")})["id"],
    }
    after = flower.newest_tasks(including=markers)
    assert after.keys() - before.keys() == markers


def _refusal(api: Api, bad: Bad) -> Json:
    answer = api.post(
        bad.path,
        params=bad.params,
        content=None if bad.body is None else json.dumps(bad.body),
        headers={} if bad.body is None else {"Content-Type": "application/json"},
    )
    assert "Location" not in answer.headers
    return problem(answer, 422, bad.code)
