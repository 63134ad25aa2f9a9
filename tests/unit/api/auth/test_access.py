"""Who may use which route: asked of every route that the application has."""

from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.app import create_app
from api.auth.access import Access, caller_name
from api.auth.api_keys import parse_keys
from api.auth.rate_limits import FAILURES_PER_ADDRESS, RateLimits
from api.auth.scopes import RouteScopes
from api.settings import ApiSettings
from twinlane_tasks.catalogue import bundled_tasks

OPEN_ROUTES = {"/livez", "/readyz", "/docs", "/docs/oauth2-redirect", "/openapi.json"}
WORK_BY_GET = {"/sequential", "/sequential_celery"}
KEYS = ",".join(
    f"{name}:{scopes}:{sha256(f'{name}-key'.encode()).hexdigest()}"
    for name, scopes in {
        "reader": "read",
        "submitter": "submit",
        "both": "read+submit",
        "operator": "admin",
    }.items()
)
HOLDERS = {
    "read": {"reader", "both", "operator"},
    "submit": {"submitter", "both", "operator"},
    "admin": {"operator"},
}
Ask = Callable[..., Awaitable[httpx2.Response]]


def settings(folder: Path, **more: Any) -> ApiSettings:  # noqa: ANN401 - any setting
    return ApiSettings(
        broker_url=SecretStr("amqp://nobody:nothing@127.0.0.1:1//"),
        result_url=SecretStr("redis://127.0.0.1:1/0"),
        rabbitmq_management_url=SecretStr("http://127.0.0.1:1"),
        storage_url=folder.as_uri(),
        **more,
    )


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield the method and path of every route, undocumented ones included."""
    for context in iter_route_contexts(app.routes):
        for method in context.methods or ():
            if context.path:
                yield method, context.path


def needed_scope(method: str, path: str) -> str:
    if path.startswith("/v1/dead-letters") and method == "POST":
        return "admin"
    return "read" if method in {"GET", "HEAD"} and path not in WORK_BY_GET else "submit"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(
        settings(tmp_path_factory.mktemp("storage"), api_keys=SecretStr(KEYS)), bundled_tasks()
    )


@pytest.fixture(scope="module")
def scopes(app: FastAPI) -> RouteScopes:
    return RouteScopes(app.routes)


@pytest.fixture(scope="module")
def guarded(app: FastAPI) -> list[tuple[str, str]]:
    return [(method, path) for method, path in routes(app) if path not in OPEN_ROUTES]


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand for the application: say who called."""
    await Response(caller_name(Request(scope)))(scope, receive, send)


def behind_access(app: ASGIApp, scopes: RouteScopes, per_key: str = "10000/second") -> ASGIApp:
    limits = RateLimits(per_key, "10000/second")
    return Access(app, scopes=scopes, keys=parse_keys(KEYS), limits=limits)


def client_of(app: ASGIApp) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, client=("192.0.2.1", 1))
    return httpx2.AsyncClient(transport=transport, base_url="http://api")


@pytest.fixture
async def ask(scopes: RouteScopes) -> Ask:
    """Ask an application that answers everything with the caller's name, behind the keys."""
    limited = behind_access(answer, scopes)

    async def ask(method: str, path: str, name: str | None = None, **more: Any) -> httpx2.Response:  # noqa: ANN401 - httpx2's own
        headers = {"Authorization": f"Bearer {name}-key"} if name else {}
        async with client_of(limited) as client:
            return await client.request(method, path, headers=headers | more.pop("headers", {}))

    return ask


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["status"], document["code"]) == (status, status, code)
    return document


async def test_no_route_but_probes_and_documentation_answers_without_a_key(
    app: FastAPI, scopes: RouteScopes, guarded: list[tuple[str, str]]
) -> None:
    assert len(guarded) > 30
    for method, path in guarded:
        limited = behind_access(app, scopes)  # failures are counted: each route has its own
        async with client_of(limited) as client:
            refused = await client.request(method, path)
            assert refused.status_code == 401, (method, path)


async def test_every_route_is_for_keys_of_its_scope_and_for_no_others(
    ask: Ask, guarded: list[tuple[str, str]]
) -> None:
    for method, path in guarded:
        allowed = {
            name
            for names in HOLDERS.values()
            for name in names
            if (await ask(method, path, name)).status_code == 200
        }
        assert allowed == HOLDERS[needed_scope(method, path)], (method, path)


async def test_the_real_application_asks_for_keys_before_anything_else(app: FastAPI) -> None:
    async with client_of(app) as client:
        refused = await client.post("/v1/batches", content=b"{" * 100)
        problem(refused, 401, "unauthorized")
        headers = {"Authorization": "Bearer reader-key"}
        refused = await client.post("/v1/batches", content=b"{" * 100, headers=headers)
        problem(refused, 403, "forbidden")


@pytest.mark.parametrize("path", sorted(OPEN_ROUTES - {"/readyz"}))
async def test_probes_and_documentation_need_no_key(app: FastAPI, path: str) -> None:
    async with client_of(app) as client:
        assert (await client.get(path)).status_code == 200
        assert (await client.get("/static-offline-docs/swagger-ui.css")).status_code == 200


async def test_refusal_without_a_key_says_how_to_send_one(ask: Ask) -> None:
    refused = await ask("GET", "/v1/jobs/42")
    assert "Authorization: Bearer" in problem(refused, 401, "unauthorized")["detail"]
    assert refused.headers["WWW-Authenticate"] == "Bearer"


async def test_unknown_key_is_not_repeated(ask: Ask) -> None:
    refused = await ask("GET", "/v1/jobs/42", "nobody")
    assert "nobody" not in str(problem(refused, 401, "unauthorized"))
    assert refused.headers["WWW-Authenticate"] == "Bearer"


async def test_refusal_for_a_scope_names_it_and_those_that_the_key_has(ask: Ask) -> None:
    document = problem(await ask("POST", "/v1/dead-letters/requeue", "both"), 403, "forbidden")
    assert document["scope"] == "admin"
    assert document["scopes"] == ["read", "submit"]
    assert document["detail"] == (
        "This needs a key with the scope admin; key both has: read, submit."
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "reader-key"},
        {"Authorization": "bearer reader-key"},
        {"Authorization": "BEARER  reader-key "},
        {"Authorization": "Basic bm9ib2R5", "X-API-Key": "reader-key"},
        {"Authorization": "Bearer reader-key", "X-API-Key": "nobody-key"},
    ],
)
async def test_key_may_be_sent_in_either_header(ask: Ask, headers: dict[str, str]) -> None:
    assert (await ask("GET", "/v1/jobs/42", headers=headers)).text == "reader"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "reader-key"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic reader-key"},
        {"Authorization": "Bearer nobody-key", "X-API-Key": "reader-key"},
        {"X-API-Key": ""},
        {"X-API-Key": "Bearer reader-key"},
        {"X-API-Key": sha256(b"reader-key").hexdigest()},
    ],
)
async def test_what_is_no_key_is_refused(ask: Ask, headers: dict[str, str]) -> None:
    problem(await ask("GET", "/v1/jobs/42", headers=headers), 401, "unauthorized")


@pytest.mark.parametrize("path", ["/v1/lanes/", "/V1/lanes", "//v1/lanes", "/nowhere", "/", "/v1"])
async def test_no_spelling_of_a_path_is_a_way_around(ask: Ask, path: str) -> None:
    problem(await ask("GET", path), 401, "unauthorized")


@pytest.mark.parametrize("path", ["/livez/../v1/lanes", "/livez%2f..%2fv1/lanes", "/docs/../tasks"])
async def test_no_open_path_leads_out_of_the_open_routes(app: FastAPI, path: str) -> None:
    target = httpx2.URL("http://api").copy_with(raw_path=path.encode())
    async with client_of(app) as client:
        assert (await client.request("GET", target)).status_code in {401, 404}


async def test_path_that_leads_nowhere_is_a_404_for_every_key_and_reaches_nothing(
    ask: Ask,
) -> None:
    document = problem(await ask("GET", "/nowhere", "reader"), 404, "not-found")
    assert "/nowhere" in document["detail"]


async def test_wrong_method_is_a_405_that_says_which_there_are(ask: Ask) -> None:
    refused = await ask("DELETE", "/v1/lanes", "operator")
    problem(refused, 405, "method-not-allowed")
    assert refused.headers["Allow"] == "GET"


async def test_too_many_requests_of_a_key_are_a_429(scopes: RouteScopes) -> None:
    limited = behind_access(answer, scopes, per_key="2/minute")
    async with client_of(limited) as client:
        headers = {"Authorization": "Bearer reader-key"}
        answers = [await client.get("/v1/lanes", headers=headers) for _ in range(3)]
        assert [found.status_code for found in answers] == [200, 200, 429]
        document = problem(answers[-1], 429, "rate-limited")
        assert document["limit"] == "2 requests per minute"
        assert int(answers[-1].headers["Retry-After"]) >= 1
        headers = {"Authorization": "Bearer both-key"}
        assert (await client.get("/v1/lanes", headers=headers)).status_code == 200
        assert (await client.get("/livez")).status_code == 200


async def test_too_many_wrong_keys_are_a_429_and_the_right_one_is_still_let_in(
    scopes: RouteScopes,
) -> None:
    limited = behind_access(answer, scopes)
    allowed = int(FAILURES_PER_ADDRESS.partition("/")[0])
    async with client_of(limited) as client:
        wrong = {"Authorization": "Bearer wrong"}
        answers = [await client.get("/v1/lanes", headers=wrong) for _ in range(allowed + 1)]
        assert {found.status_code for found in answers[:-1]} == {401}
        problem(answers[-1], 429, "rate-limited")
        right = {"Authorization": "Bearer reader-key"}
        assert (await client.get("/v1/lanes", headers=right)).status_code == 200


async def test_without_keys_everything_is_open_and_nobody_has_a_name(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, rate_limit_per_key="1/hour"), bundled_tasks())
    async with client_of(app) as client:
        answers = [await client.get("/v1/tasks") for _ in range(3)]
    assert {found.status_code for found in answers} == {200}
    assert caller_name(Request({"type": "http"})) == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost", "127.8.8.8"])
def test_without_keys_the_port_may_be_reached_from_this_machine(tmp_path: Path, host: str) -> None:
    assert settings(tmp_path, api_host=host).published_host == host
    assert settings(tmp_path, api_host="0.0.0.0", api_published_host=host).published_host == host  # noqa: S104 - as in a container


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "192.0.2.1", "api.example.com", "localhost.example.com"],  # noqa: S104 - what must be refused
)
def test_without_keys_the_port_may_not_be_reached_from_elsewhere(tmp_path: Path, host: str) -> None:
    for hosts in ({"api_host": host}, {"api_host": "127.0.0.1", "api_published_host": host}):
        with pytest.raises(
            ValidationError, match=r"python -m api\.auth\.api_keys.*API_PUBLISHED_HOST"
        ):
            settings(tmp_path, **hosts)
        settings(tmp_path, **hosts, api_keys=SecretStr(KEYS))


def test_document_says_what_each_operation_needs_and_how_it_refuses(app: FastAPI) -> None:
    document = app.openapi()
    assert document["components"]["securitySchemes"].keys() == {"bearer", "header"}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            refusals = {"401", "403", "429"} & operation["responses"].keys()
            if path in OPEN_ROUTES:
                assert "security" not in operation
                assert not refusals
            else:
                scopes = [needed_scope(method.upper(), path)]
                assert operation["security"] == [{"bearer": scopes}, {"header": scopes}]
                assert refusals == {"401", "403", "429"}


def test_document_says_that_keys_are_a_choice_where_there_are_none(tmp_path: Path) -> None:
    document = create_app(settings(tmp_path), bundled_tasks()).openapi()
    assert document["paths"]["/v1/lanes"]["get"]["security"][-1] == {}
