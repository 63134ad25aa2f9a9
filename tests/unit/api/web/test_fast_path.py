"""The shortcut answers as FastAPI does, only sooner."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Header, Path, Query, Request, Response
from starlette.types import Message

from api.errors.rendering import register
from api.errors.types import JobNotFound
from api.web.fast_path import BusyRoute, Shortcut
from api.web.parameters import refuse_unknown_parameters
from api.web.request_limits import BodyLimit
from contracts.schemas import FetchUrlArgs, ProcessCsvArgs, SumArgs

JSON = {"Content-Type": "application/json"}
MAX_BODY_BYTES = 20_000
SAMPLE = ProcessCsvArgs()


async def _caller(
    request: Request, name: Annotated[str | None, Header(alias="X-Name", max_length=5)] = None
) -> str:
    return f"{name} {request.method}"


Caller = Annotated[str, Depends(_caller)]


async def _add(args: SumArgs, caller: Caller) -> Response:
    return Response(f"{args.a + args.b} for {caller}", 202)


async def _fetch(args: FetchUrlArgs) -> Response:
    return Response(args.url)


async def _process(args: Annotated[ProcessCsvArgs, Body()] = SAMPLE) -> Response:
    return Response(args.model_dump_json())


async def _show(
    caller: Caller,
    job_id: Annotated[str, Path(max_length=8)],
    wait: Annotated[float, Query(le=60)] = 0,
) -> Response:
    if job_id == "none":
        raise JobNotFound(job_id)
    if job_id == "bug":
        raise KeyError(job_id)
    return Response(f"{job_id} {wait} for {caller}", headers={"X-Id": "1"})


async def _which_way(request: Request) -> Response:
    return Response("long" if "route" in request.scope else "short")


def make_app(route_class: type[BusyRoute] | None) -> FastAPI:
    """Return an application with routes of a class, as ours has them."""
    app = FastAPI()
    router = APIRouter(prefix="/jobs")
    routes: list[tuple[str, Callable[..., Any], str]] = [
        ("/sums", _add, "POST"),
        ("/fetches", _fetch, "POST"),
        ("/csv", _process, "POST"),
        ("/way", _which_way, "POST"),
        ("/{job_id}", _show, "GET"),
    ]
    for path, function, method in routes:
        router.add_api_route(path, function, methods=[method], route_class_override=route_class)
    app.include_router(router, dependencies=[Depends(refuse_unknown_parameters)])
    app.add_middleware(Shortcut, routes=app.routes)
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES, unlimited=set())
    register(app)
    return app


@pytest.fixture
async def with_shortcut() -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(make_app(BusyRoute), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
async def without() -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(make_app(None), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def post(path: str, content: bytes | str, *headers: tuple[str, str]) -> tuple[str, str, Any]:
    return "POST", path, {"content": content, "headers": [*headers] or JSON}


REQUESTS = [
    post("/jobs/sums", '{"a": 1, "b": 2}'),
    post("/jobs/sums", '{"a": 1, "b": 2}', ("content-type", "application/json; charset=utf-8")),
    post("/jobs/sums", '{"a": 1, "b": 2}', ("content-type", "application/problem+json")),
    post("/jobs/sums", '{"a": 1, "b": 2}', ("content-type", "text/plain")),
    post("/jobs/sums", '{"a": 1, "b": 2}', ("x-none", "")),
    post("/jobs/sums", '{"a": 1, "b": 2}', *JSON.items(), ("x-name", "ann"), ("x-name", "bob")),
    post("/jobs/sums", '{"a": 1, "b": 2}', *JSON.items(), ("x-name", "a name too long")),
    post("/jobs/sums", '{"a": 1, "b": 2}'.encode("utf-16")),
    post("/jobs/sums", '{"a": 1, "a": 5, "b": 2}'),
    post("/jobs/sums", '{"a": 1.0, "b": 2}'),
    post("/jobs/sums", '{"a": 1e3, "b": true}'),
    post("/jobs/sums", '{"a": "1", "b": null}'),
    post("/jobs/sums", '{"a": NaN, "b": 2}'),
    post("/jobs/sums", '{"a": 1, "b": 2, "c": 3}'),
    post("/jobs/sums", f'{{"a": {"9" * 4_000}, "b": 2}}'),
    post("/jobs/sums", f'{{"a": {"9" * 4_001}, "b": 2}}'),
    post("/jobs/sums", f'{{"a": {"9" * 9_999}, "b": 2}}'),
    post("/jobs/sums", "[" * 9_999),
    post("/jobs/sums", "{"),
    post("/jobs/sums", "null"),
    post("/jobs/sums", ""),
    post("/jobs/sums", b"\xff"),
    post("/jobs/sums", " " * (MAX_BODY_BYTES + 1)),
    post("/jobs/sums?x=1", '{"a": 1, "b": 2}'),
    post("/jobs/sums/", '{"a": 1, "b": 2}'),
    post("/jobs/fetches", '{"url": "http://host/%20"}'),
    post("/jobs/fetches", '{"url": "http://host/\\ud800"}'),
    post("/jobs/fetches", '{"url": "http://host/\\ud83d\\ude00"}'),
    post("/jobs/csv", ""),
    post("/jobs/csv", "{}"),
    post("/jobs/csv", "null"),
    post("/jobs/csv", '{"num_rows": 5}'),
    post("/jobs/csv", '{"num_rows": 0}'),
    ("GET", "/jobs/abc", {}),
    ("GET", "/jobs/abc", {"headers": {"x-name": "ann"}}),
    ("GET", "/jobs/abc?wait=2", {}),
    ("GET", "/jobs/abc?wait=61", {}),
    ("GET", "/jobs/abc?what=2", {}),
    ("GET", "/jobs/a%20b", {}),
    ("GET", "/jobs/a%2Fb", {}),
    ("GET", "/jobs/longer-than-eight", {}),
    ("GET", "/jobs/{}", {}),
    ("GET", "/jobs/none", {}),
    ("GET", "/jobs/bug", {}),
    ("GET", "/jobs/", {}),
    ("GET", "/jobs/sums", {}),
    ("GET", "/jobs/abc/def", {}),
    ("HEAD", "/jobs/abc", {}),
    ("DELETE", "/jobs/abc", {}),
]


@pytest.mark.parametrize(("method", "path", "request_"), REQUESTS)
async def test_answer_is_the_same_with_and_without(
    method: str,
    path: str,
    request_: dict[str, Any],
    with_shortcut: httpx2.AsyncClient,
    without: httpx2.AsyncClient,
) -> None:
    sooner = await with_shortcut.request(method, path, **request_)
    later = await without.request(method, path, **request_)
    assert sooner.status_code == later.status_code
    assert sooner.content == later.content
    assert sooner.headers == later.headers


async def test_plain_request_takes_the_shortcut(
    with_shortcut: httpx2.AsyncClient, without: httpx2.AsyncClient
) -> None:
    assert (await with_shortcut.post("/jobs/way")).text == "short"
    assert (await without.post("/jobs/way")).text == "long"


def test_documentation_is_the_same_with_and_without() -> None:
    assert json.dumps(make_app(BusyRoute).openapi()) == json.dumps(make_app(None).openapi())


async def test_client_that_goes_before_its_body_is_complete_gets_nothing() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/jobs/sums", "query_string": b""}
    await make_app(BusyRoute)(scope | {"headers": []}, receive, send)


async def test_function_that_needs_more_than_the_shortcut_gives_is_refused_at_once() -> None:
    async def with_response(response: Response) -> Response:
        return response

    async def with_needed_query(number: int) -> Response:
        return Response(str(number))

    async def with_two_bodies(one: SumArgs, other: SumArgs) -> Response:
        return Response(f"{one} {other}")

    def not_async() -> Response:
        return Response()

    for function in (with_response, with_needed_query, with_two_bodies, not_async):
        app = FastAPI()
        app.router.add_api_route("/x", function, methods=["POST"], route_class_override=BusyRoute)
        with pytest.raises(TypeError, match="see BusyRoute"):
            Shortcut(app, app.routes)


async def test_busy_route_that_would_hide_another_is_refused_at_once() -> None:
    async def show(job_id: str) -> Response:
        return Response(job_id)

    app = FastAPI()
    app.router.add_api_route("/jobs/statistics", _which_way)
    app.router.add_api_route("/jobs/{job_id}", show, route_class_override=BusyRoute)
    with pytest.raises(TypeError, match="GET /jobs/statistics and the busy routes hide each other"):
        Shortcut(app, app.routes)
