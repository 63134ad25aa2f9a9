from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import SecretStr

from api.app import create_app
from api.errors.types import MEDIA_TYPE
from api.settings import ApiSettings
from twinlane_tasks.catalogue import bundled_tasks

TASKS = bundled_tasks()
METHODS = {"get", "post", "put", "patch", "delete"}
PROBES = {"/livez", "/readyz"}

# DESIGN §6 and §8, as far as they are built.
ROUTES = {
    ("get", "/v1/tasks"),
    ("get", "/v1/tasks/{name}"),
    ("get", "/v1/jobs/{job_id}"),
    ("get", "/v1/jobs/{job_id}/result"),
    ("get", "/v1/jobs/{job_id}/artifacts"),
    ("get", "/v1/jobs/{job_id}/artifacts/{name}"),
    ("post", "/v1/batches"),
    ("get", "/v1/batches/{batch_id}"),
    ("post", "/v1/files"),
    ("get", "/v1/files/{file_id}"),
    ("get", "/v1/lanes"),
    ("get", "/v1/dead-letters"),
    ("post", "/v1/dead-letters/requeue"),
    ("post", "/v1/dead-letters/discard"),
    ("get", "/livez"),
    ("get", "/readyz"),
    ("post", "/send-task/"),
    ("get", "/task-status/{task_id}"),
    ("post", "/process-csv"),
    ("post", "/aggregate"),
    ("post", "/send-report"),
    ("get", "/tasks/{task_id}"),
    ("get", "/queue/stats"),
    ("get", "/sequential"),
    ("get", "/sequential_celery"),
    ("get", "/result/{task_id}"),
    ("post", "/exibir"),
    *(("post", f"/v1/tasks/{name}/jobs") for name in TASKS),
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(
        ApiSettings(
            broker_url=SecretStr("amqp://nobody:nothing@127.0.0.1:1//"),
            result_url=SecretStr("redis://127.0.0.1:1/0"),
            rabbitmq_management_url=SecretStr("http://127.0.0.1:1"),
            storage_url=tmp_path_factory.mktemp("storage").as_uri(),
        ),
        TASKS,
    )


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and the description of every operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield path, operation


def test_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    problems = [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()]
    assert problems == []


def test_every_route_of_the_design_is_documented(document: dict[str, Any]) -> None:
    documented = {
        (method, path) for path, item in document["paths"].items() for method in METHODS & set(item)
    }
    assert documented >= ROUTES


def test_every_operation_has_a_summary_and_a_description(document: dict[str, Any]) -> None:
    assert [
        path
        for path, operation in operations(document)
        if not (operation.get("summary") and operation.get("description"))
    ] == []


def test_every_operation_has_one_of_the_described_tags(document: dict[str, Any]) -> None:
    described = {tag["name"] for tag in document["tags"]}
    for path, operation in operations(document):
        assert set(operation["tags"]) <= described, path
        assert operation["tags"], path


def test_ids_of_operations_are_not_shared(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(ids)) == len(ids)


def test_every_parameter_of_v1_is_described(document: dict[str, Any]) -> None:
    undescribed = [
        (path, parameter["name"])
        for path, operation in operations(document)
        if path.startswith("/v1/")
        for parameter in operation.get("parameters", [])
        if not parameter.get("description")
    ]
    assert undescribed == []


def test_every_error_is_a_problem_document_with_an_example(document: dict[str, Any]) -> None:
    for path, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 400 or path in PROBES:
                continue
            content = response["content"]
            assert list(content) == [MEDIA_TYPE], (path, status)
            assert content[MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert content[MEDIA_TYPE]["examples"], (path, status)


@pytest.mark.parametrize("task", TASKS)
def test_submission_documents_what_can_go_wrong(document: dict[str, Any], task: str) -> None:
    responses = document["paths"][f"/v1/tasks/{task}/jobs"]["post"]["responses"]
    assert set(responses) >= {"200", "202", "400", "413", "422", "503"}
    unavailable = responses["503"]["content"][MEDIA_TYPE]["examples"]
    assert set(unavailable) == {
        "broker-unavailable",
        "lane-full",
        "outcome-unknown",
        "overloaded",
        "results-unavailable",
    }


@pytest.mark.parametrize("path", [path for method, path in sorted(ROUTES) if "_id}" in path])
def test_route_of_one_thing_documents_that_it_may_not_exist(
    document: dict[str, Any], path: str
) -> None:
    assert "404" in document["paths"][path]["get"]["responses"]


@pytest.mark.parametrize("task", TASKS)
def test_body_of_a_submission_is_the_schema_of_its_arguments(
    document: dict[str, Any], task: str
) -> None:
    body = document["paths"][f"/v1/tasks/{task}/jobs"]["post"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert schema["$ref"].rpartition("/")[2] == TASKS[task].args.__name__


def test_documentation_is_served_without_other_peoples_servers(app: FastAPI) -> None:
    paths = {getattr(route, "path", "") for route in app.routes}
    assert "/docs" in paths
    assert any(path.startswith("/static-offline-docs") for path in paths)


def test_creating_the_application_leaves_the_working_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    create_app(
        ApiSettings(
            broker_url=SecretStr("amqp://nobody:nothing@127.0.0.1:1//"),
            result_url=SecretStr("redis://127.0.0.1:1/0"),
            rabbitmq_management_url=SecretStr("http://127.0.0.1:1"),
        ),
        TASKS,
    )
    assert list(tmp_path.iterdir()) == []
