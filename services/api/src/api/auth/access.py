"""Who may do what. Asked here and nowhere else, before anything reads the request.

Every route belongs to an area, the first part of its path (below /v1, the first two). What is not
listed here is not served: an application with such a route does not start.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi.routing import iter_route_contexts
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from api.auth.api_keys import ApiKey, KeysByDigest, Scope, find_key
from api.auth.rate_limits import RateLimits
from api.errors.openapi import describe_refusals
from api.errors.rendering import to_response
from api.errors.types import ApiError, Forbidden, RateLimited, Unauthorized, no_route

OPEN: Final = frozenset({"livez", "readyz", "docs", "openapi.json", "static-offline-docs"})
"""Areas that need no key and are not counted: probes, and what the documentation is made of."""

_READ: Final = (
    *("v1/tasks", "v1/jobs", "v1/batches", "v1/files", "v1/lanes", "v1/dead-letters"),
    *("task-status", "tasks", "result", "queue", "metrics"),
)
_SUBMIT: Final = (
    *("v1/tasks", "v1/jobs", "v1/batches", "v1/files"),
    *("send-task", "process-csv", "aggregate", "send-report", "exibir"),
)
NEEDED: Final[Mapping[tuple[str, str], Scope]] = (
    {("GET", area): Scope.READ for area in _READ}
    # The demonstrations had these as GET, but they make work.
    | {("GET", area): Scope.SUBMIT for area in ("sequential", "sequential_celery")}
    | {("POST", area): Scope.SUBMIT for area in _SUBMIT}
    | {("POST", "v1/dead-letters"): Scope.ADMIN}
)
"""The scope that a method needs in an area."""

_CALLER: Final = "twinlane.caller"
_SCHEMES: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of API_KEYS."},
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same, where Authorization is taken.",
    },
}


class Access:
    """ASGI middleware: lets a request pass that has a key with the scope its route needs."""

    def __init__(self, app: ASGIApp, keys: KeysByDigest, limits: RateLimits) -> None:
        self._app = app
        self._keys = keys
        self._limits = limits

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Pass the request on with the name of its key, or answer 401, 403 or 429."""
        if scope["type"] == "http" and (area := area_of(scope["path"])) not in OPEN:
            refusal = self._admit(scope, area)
            if refusal is not None:
                await to_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: AsgiScope, area: str) -> ApiError | None:
        """Note who calls; return why the request is refused, or None."""
        client = scope["client"]
        address = client[0] if client else ""
        presented = _presented(scope["headers"])
        key = find_key(self._keys, presented) if presented else None
        if key is None:
            return self._limits.count_failure(address) or _unauthorized(presented)
        if too_many := self._limits.count(key.name, address):
            return too_many
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        needed = NEEDED.get((method, area))
        if needed is None:
            return _no_route(scope, area)
        if not key.allows(needed):
            return _forbidden(key, needed)
        scope[_CALLER] = key.name
        return None


def caller_name(request: HTTPConnection) -> str:
    """Return the name of the key that a request came with; "" when no keys are configured."""
    name: str = request.scope.get(_CALLER, "")
    return name


def area_of(path: str) -> str:
    """Return the area of a path: `v1/jobs` of `/v1/jobs/42`, `tasks` of `/tasks/42`."""
    first, _, rest = path[1:].partition("/")
    return f"v1/{rest.partition('/')[0]}" if first == "v1" else first


def check_routes(routes: Iterable[BaseRoute]) -> None:
    """Check that it is said of every route who may use it.

    Raises:
        LookupError: it is not; names the route.

    """
    for context in iter_route_contexts(list(routes)):
        area, methods = area_of(context.path or ""), context.methods
        if area in OPEN:
            continue
        if not methods or isinstance(context.original_route, Mount):
            raise LookupError(f"{context.path} has no methods that scopes could be asked for")
        missing = {method for method in methods - {"HEAD"} if (method, area) not in NEEDED}
        if missing:
            raise LookupError(f"api.access does not say who may {missing} {context.path}")


def describe(document: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """Add to an OpenAPI document what each operation needs, and how it refuses."""
    document["components"]["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            needed = NEEDED.get((method.upper(), area_of(path)))
            if needed is not None:
                described = [{name: [str(needed)]} for name in _SCHEMES]
                operation["security"] = described if required else [*described, {}]
                describe_refusals(operation, Unauthorized, Forbidden, RateLimited)
    return document


def _presented(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the key that a request came with; a bearer token wins over X-API-Key."""
    presented = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name == b"x-api-key":
            presented = value.strip()
    return presented


def _unauthorized(presented: bytes | None) -> Unauthorized:
    if presented is None:
        return Unauthorized("Send a key, as Authorization: Bearer … or X-API-Key: …")
    return Unauthorized("The key is not known here.")


def _no_route(scope: AsgiScope, area: str) -> ApiError:
    allowed = [method for method, known in NEEDED if known == area]
    return no_route(scope["method"], scope["path"], allowed)


def _forbidden(key: ApiKey, needed: Scope) -> Forbidden:
    scopes = sorted(key.scopes)
    return Forbidden(
        f"This needs a key with the scope {needed}; key {key.name} has: {', '.join(scopes)}.",
        scope=needed,
        scopes=scopes,
    )
