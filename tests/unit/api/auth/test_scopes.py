"""What routes declare, and applications that do not start because one declares nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import APIRouter, FastAPI
from pydantic import SecretStr

from api.app import create_app
from api.auth.api_keys import Scope
from api.auth.scopes import RouteScopes, needs, needs_no_key
from api.settings import ApiSettings
from api.web.routes import lanes
from twinlane_tasks.catalogue import bundled_tasks


async def undeclared() -> None: ...


@needs(Scope.READ)
async def reads() -> None: ...


@needs(Scope.SUBMIT)
async def submits() -> None: ...


@needs(Scope.ADMIN)
async def administers() -> None: ...


@needs_no_key
async def is_open() -> None: ...


def scopes_of(*routes: tuple[str, str, Callable[..., Any]]) -> RouteScopes:
    """Return the scopes of an application with these routes, in their order."""
    app, router = FastAPI(openapi_url=None), APIRouter()
    for method, path, endpoint in routes:
        router.add_api_route(path, endpoint, methods=[method])
    app.include_router(router)
    return RouteScopes(app.routes)


def needed(scopes: RouteScopes, method: str, path: str) -> Scope | None:
    return scopes.area(path).needed(method, path)


def test_each_route_needs_what_it_declares() -> None:
    scopes = scopes_of(
        ("GET", "/v1/jobs/{job_id}", reads),
        ("POST", "/v1/jobs/{job_id}/cancel", submits),
        ("GET", "/v1/lanes", administers),
    )
    assert needed(scopes, "GET", "/v1/jobs/42") == Scope.READ
    assert needed(scopes, "HEAD", "/v1/jobs/42") == Scope.READ
    assert needed(scopes, "POST", "/v1/jobs/42/cancel") == Scope.SUBMIT
    assert needed(scopes, "GET", "/v1/lanes") == Scope.ADMIN


def test_routes_of_an_area_with_one_method_may_differ() -> None:
    scopes = scopes_of(
        ("POST", "/v1/jobs/purge", administers),
        ("POST", "/v1/jobs/{job_id}", submits),
        ("POST", "/v1/jobs/{job_id}/retry", administers),
    )
    assert needed(scopes, "POST", "/v1/jobs/purge") == Scope.ADMIN
    assert needed(scopes, "POST", "/v1/jobs/42") == Scope.SUBMIT
    assert needed(scopes, "POST", "/v1/jobs/42/retry") == Scope.ADMIN


def test_of_two_routes_that_match_the_first_decides_as_it_answers() -> None:
    scopes = scopes_of(
        ("GET", "/v1/jobs/{job_id}", administers), ("GET", "/v1/jobs/statistics", reads)
    )
    assert needed(scopes, "GET", "/v1/jobs/statistics") == Scope.ADMIN


def test_path_below_an_area_needs_a_scope_even_if_no_route_matches() -> None:
    scopes = scopes_of(
        ("GET", "/v1/jobs/{job_id}", reads), ("GET", "/v1/jobs/{job_id}/log", administers)
    )
    assert needed(scopes, "GET", "/v1/jobs/42/nothing/here") == Scope.READ


def test_method_and_path_that_no_route_has_need_nothing_and_are_not_open() -> None:
    scopes = scopes_of(("GET", "/v1/jobs", reads), ("POST", "/v1/jobs", submits))
    area = scopes.area("/v1/jobs")
    assert needed(scopes, "DELETE", "/v1/jobs") is None
    assert (area.is_open, area.methods) == (False, ["GET", "POST"])
    nowhere = scopes.area("/nowhere")
    assert needed(scopes, "GET", "/nowhere") is None
    assert (nowhere.is_open, nowhere.methods) == (False, [])


def test_area_is_open_if_its_routes_need_no_key() -> None:
    scopes = scopes_of(("GET", "/livez", is_open), ("GET", "/v1/lanes", reads))
    assert scopes.area("/livez").is_open
    assert not scopes.area("/v1/lanes").is_open


@pytest.mark.parametrize(
    ("add", "complaint"),
    [
        (
            lambda router: router.add_api_route("/v1/secrets", undeclared, methods=["GET"]),
            r"GET /v1/secrets declares no scope: put @needs\(…\) or @needs_no_key above undeclared",
        ),
        (
            lambda router: router.add_api_route("/docs/secrets", undeclared, methods=["GET"]),
            "GET /docs/secrets declares no scope",
        ),
        (
            lambda router: router.add_api_route("/v1/lanes", undeclared, methods=["PUT", "POST"]),
            "POST, PUT /v1/lanes declares no scope",
        ),
        (
            lambda router: router.add_api_route("/{anything}", reads, methods=["GET"]),
            r"GET /\{anything\} begins with a parameter",
        ),
        (
            lambda router: router.add_api_route("/v1/{anything}", reads, methods=["GET"]),
            r"GET /v1/\{anything\} begins with a parameter",
        ),
        (lambda router: router.mount("/v1/jobs", undeclared), "/v1/jobs has no methods"),
        (
            lambda router: router.add_websocket_route("/v1/jobs", undeclared),
            "/v1/jobs has no methods",
        ),
    ],
)
def test_route_whose_scope_is_not_known_is_not_served(
    add: Callable[[APIRouter], None], complaint: str
) -> None:
    app, router = FastAPI(openapi_url=None), APIRouter()
    add(router)
    app.include_router(router)
    with pytest.raises(TypeError, match=complaint):
        RouteScopes(app.routes)


@pytest.mark.parametrize(("path", "endpoint"), [("/v1/jobs/ping", is_open), ("/docs/ping", reads)])
def test_no_route_opens_a_closed_area_or_closes_an_open_one(
    path: str, endpoint: Callable[..., Any]
) -> None:
    app = FastAPI(redoc_url=None)
    app.add_api_route("/v1/jobs", reads)
    app.add_api_route(path, endpoint)
    with pytest.raises(TypeError, match="all are open or none"):
        RouteScopes(app.routes)


def test_route_without_a_scope_stops_the_start_with_a_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ApiSettings(
        broker_url=SecretStr("amqp://nobody:nothing@127.0.0.1:1//"),
        result_url=SecretStr("redis://127.0.0.1:1/0"),
        rabbitmq_management_url=SecretStr("http://127.0.0.1:1"),
        storage_url=tmp_path.as_uri(),
    )
    router = APIRouter()
    router.add_api_route("/v1/secrets", undeclared)
    monkeypatch.setattr(lanes, "router", router)
    config = uvicorn.Config(
        lambda: create_app(settings, bundled_tasks()), factory=True, log_config=None
    )
    with pytest.raises(SystemExit):
        config.load()
    (record,) = caplog.records
    assert "GET /v1/secrets declares no scope" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert record.exc_info is None
