"""Whatever a client sends, the answer is one that the OpenAPI document announces, and no 5xx.

Schemathesis makes requests for every operation of the document, so that a new route is asked by
itself: with values at its boundaries, valid and invalid ones, by methods that it does not have.
Each run makes the same.
"""

from collections.abc import Iterator
from itertools import cycle
from typing import Any, Final

import pytest
import requests
import schemathesis
from pydantic import SecretStr
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.app import create_app
from api.settings import ApiSettings
from e2e.client import Api, Json, key_headers, unique
from e2e.conftest import Stack
from servers import eventually
from twinlane_tasks.catalogue import bundled_tasks

EXAMPLES: Final = 20
"""Random requests for each operation, on top of those for its boundaries: about 1,800 in all."""
CHECKS: Final[list[CheckFunction]] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
LATER_SECONDS: Final = 2_592_000.0
MOST: Final = {"num_rows": 100, "n": 2, "wait": 0.1}
"""What parameters are brought down to that would make much work, or wait long."""
CALLS: Final = {"/sequential", "/sequential_celery"}


@schemathesis.serializer("application/x-ndjson")
def ndjson(_: schemathesis.SerializationContext, value: Any) -> bytes:  # noqa: ANN401 - any string
    return str(value).encode(errors="replace")


def document() -> schemathesis.BaseSchema:
    """Return the document as the application makes it: tests are collected before a stack runs."""
    nowhere = {"broker_url": "amqp://127.0.0.1:1//", "result_url": "redis://127.0.0.1:1/0"}
    management = SecretStr("http://127.0.0.1:1")
    settings = ApiSettings.model_validate(nowhere | {"rabbitmq_management_url": management})
    generation = {
        "max-examples": EXAMPLES,
        "deterministic": True,
        "database": "none",
        "with-security-parameters": False,  # the session has the key, if there are any
    }
    config = schemathesis.Config.from_dict({"generation": generation})
    return schemathesis.openapi.from_dict(
        create_app(settings, bundled_tasks()).openapi(), config=config
    )


contract = document()


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers.update(key_headers())
        yield session


@pytest.fixture(scope="module")
def known(api: Api) -> dict[str, Iterator[str]]:
    """Values of path parameters that lead to something."""
    filename = api.upload(unique("contract", ".csv"), b"a,b\n1,2\nx\n")["filename"]
    empty = api.upload(unique("contract", ".csv"), b"")
    done, failed = (
        api.run("cpu.process_csv", {"filename": name})["id"]
        for name in (filename, empty["filename"])
    )
    waiting = api.submit("cpu.sum_numbers", {"a": 1, "b": 2}, delay=LATER_SECONDS)
    batch = api.submit_batch([{"task": "cpu.aggregate_sales"}, {"task": "nope"}])["id"]
    return {
        "job_id": cycle([done, failed, waiting]),
        "ended": cycle([done, failed]),
        "task_id": cycle([done, failed, waiting, batch]),
        "batch_id": cycle([batch]),
        "file_id": cycle([empty["id"]]),
        "name": cycle(["profile.json", "cpu.sum_numbers"]),
    }


@pytest.fixture(scope="module")
def submitted(api: Api) -> Iterator[set[str]]:
    """Ids of the jobs that the tests make: cancelled in the end, and none of them met a bug."""
    ids: set[str] = set()
    yield ids
    for job_id in ids:
        api.post(f"/v1/jobs/{job_id}/cancel")
    idle = eventually(
        lambda: not any(lane["ready"] + lane["running"] for lane in api.read("/v1/lanes")["lanes"]),
        60,
    )
    assert idle, "what is left would disturb the tests that follow"
    ended = [api.get(f"/v1/jobs/{job_id}").json() for job_id in ids]
    assert [job for job in ended if (job.get("error") or {}).get("code") == "internal-error"] == []


def test_stack_serves_this_document(api: Api) -> None:
    assert api.read("/openapi.json")["paths"].keys() == contract.raw_schema["paths"].keys()


@contract.parametrize()
def test_every_answer_is_one_that_the_document_announces(
    case: schemathesis.Case[Any],
    stack: Stack,
    session: requests.Session,
    known: dict[str, Iterator[str]],
    submitted: set[str],
) -> None:
    lead_somewhere(case, known)
    make_little_work(case)
    answer = case.call_and_validate(base_url=stack.api_url, session=session, checks=CHECKS)
    if answer.status_code == requests.codes.accepted:
        submitted |= ids_in(answer.json())


def lead_somewhere(case: schemathesis.Case[Any], known: dict[str, Iterator[str]]) -> None:
    """Put something that is there into every second path."""
    for name, value in case.path_parameters.items():
        if name in known and len(str(value)) % 2:
            # The stream of a job that waits would not end.
            source = "ended" if case.path.endswith("/events") else name
            case.path_parameters[name] = next(known[source])


def make_little_work(case: schemathesis.Case[Any]) -> None:
    """Leave what will be refused as it is, and have what will be accepted start later, or small."""
    if case.path in CALLS:
        case.query = {"n": 1, "delay": 0} | case.query
        if number(case.query["delay"]) > 0:
            case.query["delay"] = 0
    elif case.path.endswith("/jobs"):
        case.query = {"delay": LATER_SECONDS} | case.query
    if "Prefer" in case.headers:
        case.headers["Prefer"] = "wait=0"
    for part in (case.query, case.body, *items_of_batch(case.body)):
        if isinstance(part, dict):
            part |= {name: most for name, most in MOST.items() if number(part.get(name)) > most}


def items_of_batch(body: object) -> Iterator[object]:
    for item in body if isinstance(body, list) else ():
        if isinstance(item, dict):
            item.setdefault("delay", LATER_SECONDS)
            yield item.get("args")


def number(value: object) -> float:
    """Return what the server would read; 0 if it is no number."""
    try:
        return float(str(value))
    except ValueError:
        return 0


def ids_in(accepted: Json) -> set[str]:
    """Return the ids of all jobs that an answer tells of."""
    outcomes: list[Json] = [accepted, *accepted.get("items", ())]
    return {str(job_id) for one in outcomes if (job_id := one.get("id") or one.get("task_id"))}
