"""What people who run the stack look at."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import httpx2
import pytest

from e2e.client import Api, Json
from e2e.conftest import Stack
from e2e.flower import Flower
from servers import eventually


def test_livez_says_that_the_process_lives(api: Api) -> None:
    assert api.read("/livez") == {"status": "alive"}


def test_readyz_names_every_server_that_the_api_needs(api: Api) -> None:
    ready = api.read("/readyz")

    assert ready["ready"] is True
    assert all(ready[server]["ready"] is True for server in ("broker", "results", "storage"))


def test_lanes_are_two_and_somebody_works_on_each(api: Api) -> None:
    lanes = {lane["lane"]: lane for lane in api.read("/v1/lanes")["lanes"]}

    assert lanes.keys() == {"io", "cpu"}
    for name, lane in lanes.items():
        assert lane["queue"] == f"jobs.{name}"
        assert lane["consumers"] >= 1
        assert lane["no_consumers"] is False


def test_lane_shows_the_jobs_that_wait_and_run(api: Api) -> None:
    batch = api.submit_batch(
        {"task": "cpu.sum_numbers", "args": {"a": 1, "b": n}} for n in range(10)
    )

    def shows_them() -> bool:
        (cpu,) = (lane for lane in api.read("/v1/lanes")["lanes"] if lane["lane"] == "cpu")
        return bool(cpu["ready"] and cpu["running"] and cpu["oldest_seconds"] is not None)

    assert eventually(shows_them, within_seconds=20)
    assert api.ended_batch(batch["id"])["state"] == "succeeded"


# --- the documentation ---


def test_docs_page_brings_everything_that_it_needs_itself(api: Api) -> None:
    page = api.get("/docs").text

    needed = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page)
    assert needed
    for address in needed:
        assert urljoin(api.base_url, address).startswith(api.base_url)
        assert api.get(address).status_code == 200
    assert not re.search(r"https?://(?!127\.0\.0\.1|localhost)", page)


def test_openapi_document_resolves_and_describes_every_operation(api: Api) -> None:
    document = api.read("/openapi.json")

    assert document["openapi"].startswith("3.")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] and operation["responses"] for operation in operations)
    for reference in set(_references(document)):
        assert _resolve(document, reference), reference


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/tasks/{task}/jobs", "post"),
        ("/v1/batches", "post"),
        ("/v1/files", "post"),
        ("/v1/jobs/{job_id}", "get"),
        ("/send-task/", "post"),
        ("/tasks/{task_id}", "get"),
    ],
)
def test_openapi_document_tells_the_errors_of_a_route_as_problems(
    api: Api, path: str, method: str
) -> None:
    paths = api.read("/openapi.json")["paths"]
    operation = paths[path.replace("{task}", "cpu.sum_numbers")][method]

    errors = {s: r for s, r in operation["responses"].items() if s.startswith(("4", "5"))}
    assert errors
    assert all("application/problem+json" in response["content"] for response in errors.values())


def _references(node: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _resolve(document: Json, reference: str) -> object:
    node: Any = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


# --- Flower ---


@pytest.mark.parametrize("path", ["/", "/workers", "/api/workers", "/api/tasks"])
@pytest.mark.parametrize("auth", [None, ("twinlane", "wrong")], ids=["nobody", "wrong password"])
def test_flower_lets_nobody_in_without_the_password(
    stack: Stack, path: str, auth: tuple[str, str] | None
) -> None:
    with httpx2.Client(base_url=stack.flower_url, auth=auth, timeout=30) as client:
        assert client.get(path).status_code == 401


def test_flower_shows_the_workers_of_both_lanes(flower: Flower) -> None:
    def both_online() -> bool:
        return {name.split("-")[1] for name in flower.online_workers()} == {"io", "cpu"}

    assert eventually(both_online)


def test_flower_shows_what_ran_and_how_it_ended(api: Api, flower: Flower, httpbin: str) -> None:
    job = api.run("io.fetch_url", {"url": f"{httpbin}/delay/0"})

    def shown_as_success() -> bool:
        task = flower.newest_tasks(including={job["id"]})[job["id"]]
        return (task["name"], task["state"]) == ("io.fetch_url", "SUCCESS")

    assert eventually(shown_as_success)
