"""The fast path answers as FastAPI does, only sooner."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Header, Path, Query, Request, Response
from starlette.types import Message

from api.errors.rendering import register
from api.errors.types import JobNotFound
from api.web.fast_path import FastPath, fast_path
from api.web.parameters import refuse_unknown_parameters
from api.web.request_limits import BodyLimit
from twinlane_tasks.csv import ProcessCsvArgs
from twinlane_tasks.http import FetchUrlArgs
from twinlane_tasks.sums import SumArgs

JSON = {"Content-Type": "application/json"}
MAX_BODY_BYTES = 20_000
SAMPLE = ProcessCsvArgs()


async def _caller(
    request: Request, name: Annotated[str | None, Header(alias="X-Name", max_length=5)] = None
) -> str:
    return f"{name} {request.method}"


Caller = Annotated[str, Depends(_caller)]


@fast_path
async def _add(args: SumArgs, caller: Caller) -> Response:
    return Response(f"{args.a + args.b} for {caller}", 202)


@fast_path
async def _fetch(args: FetchUrlArgs) -> Response:
    return Response(args.url)


@fast_path
async def _process(args: Annotated[ProcessCsvArgs, Body()] = SAMPLE) -> Response:
    return Response(args.model_dump_json())


@fast_path
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


@fast_path
async def _which_way(request: Request) -> Response:
    return Response("usual" if "route" in request.scope else "fast")


def make_app(*, is_fast: bool) -> FastAPI:
    """Return an application with fast routes, as ours has them, with the fast path or without."""
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
        router.add_api_route(path, function, methods=[method])
    app.include_router(router, dependencies=[Depends(refuse_unknown_parameters)])
    if is_fast:
        app.add_middleware(FastPath, routes=app.routes)
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES, unlimited=set())
    register(app)
    return app


@pytest.fixture
async def with_fast_path() -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(make_app(is_fast=True), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
async def without() -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(make_app(is_fast=False), raise_app_exceptions=False)
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
    with_fast_path: httpx2.AsyncClient,
    without: httpx2.AsyncClient,
) -> None:
    sooner = await with_fast_path.request(method, path, **request_)
    later = await without.request(method, path, **request_)
    assert sooner.status_code == later.status_code
    assert sooner.content == later.content
    assert sooner.headers == later.headers


async def test_plain_request_takes_the_fast_path(
    with_fast_path: httpx2.AsyncClient, without: httpx2.AsyncClient
) -> None:
    assert (await with_fast_path.post("/jobs/way")).text == "fast"
    assert (await without.post("/jobs/way")).text == "usual"


def test_documentation_is_the_same_with_and_without() -> None:
    assert json.dumps(make_app(is_fast=True).openapi()) == json.dumps(
        make_app(is_fast=False).openapi()
    )


async def test_client_that_goes_before_its_body_is_complete_gets_nothing() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/jobs/sums", "query_string": b""}
    await make_app(is_fast=True)(scope | {"headers": []}, receive, send)


async def test_function_that_needs_more_than_the_fast_path_gives_is_refused_at_once() -> None:
    async def with_response(response: Response) -> Response:
        return response

    async def with_needed_query(number: int) -> Response:
        return Response(str(number))

    async def with_two_bodies(one: SumArgs, other: SumArgs) -> Response:
        return Response(f"{one} {other}")

    def not_async() -> Response:
        return Response()

    functions: list[Any] = [with_response, with_needed_query, with_two_bodies, not_async]
    for function in functions:
        app = FastAPI()
        app.add_api_route("/x", fast_path(function), methods=["POST"])
        with pytest.raises(TypeError, match="see @fast_path"):
            FastPath(app, app.routes)


async def test_fast_route_that_would_hide_another_is_refused_at_once() -> None:
    async def statistics() -> Response:
        return Response()

    app = FastAPI()
    app.add_api_route("/jobs/statistics", statistics)
    app.add_api_route("/jobs/{job_id}", _show)
    with pytest.raises(TypeError, match="GET /jobs/statistics and the fast routes hide each other"):
        FastPath(app, app.routes)
