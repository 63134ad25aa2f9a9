"""The scope that a key needs for each route: declared beside the route, read once at the start.

    @router.get("/{job_id}", summary="Show a job")
    @needs(Scope.READ)
    async def show_job(job_id: JobId) -> Response: ...

An application with a route that declares nothing does not start.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import BaseRoute

from api.auth.api_keys import Scope
from api.errors.openapi import describe_refusals
from api.errors.types import Forbidden, RateLimited, Unauthorized

_DOCUMENTATION: Final = frozenset(
    {"/docs", "/docs/oauth2-redirect", "/openapi.json", "/static-offline-docs"}
)
"""Paths of the framework's own routes: they can't declare anything, and need no key."""

_ATTRIBUTE: Final = "needed_scope"
"""Where a route's function keeps what it declares: a scope, or None when it needs no key."""
_SCHEMES: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of API_KEYS."},
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same, where Authorization is taken.",
    },
}

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def needs(scope: Scope) -> Callable[[Endpoint], Endpoint]:
    """Declare the scope that a key needs for the route of a function."""

    def declare(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _ATTRIBUTE, scope)
        return endpoint

    return declare


def needs_no_key(endpoint: Endpoint) -> Endpoint:
    """Declare that everybody may use the route of a function; its requests are not counted."""
    setattr(endpoint, _ATTRIBUTE, None)
    return endpoint


class _Route(NamedTuple):
    """A route with one of its methods, and the scope that it declares."""

    method: str
    path: str
    pattern: re.Pattern[str]
    scope: Scope | None


@dataclass(frozen=True, slots=True)
class _Rules:
    """What the routes of an area need that have the same method."""

    routes: Sequence[_Route]
    shared: Scope | None
    """What all of them need, so that a request's path need not be looked at."""

    def needed(self, path: str) -> Scope | None:
        if self.shared:
            return self.shared
        found = next((route for route in self.routes if route.pattern.match(path)), self.routes[0])
        return found.scope


@dataclass(frozen=True, slots=True)
class Area:
    """The routes whose paths begin alike: one resource."""

    is_open: bool
    """Whether nobody needs a key, whatever the method and the rest of the path."""
    rules: Mapping[str, _Rules]

    def needed(self, method: str, path: str) -> Scope | None:
        """Return the scope that a request needs, or None if no route has its method."""
        rules = self.rules.get("GET" if method == "HEAD" else method)
        return rules.needed(path) if rules else None

    @property
    def methods(self) -> list[str]:
        """The methods that there are."""
        return sorted(self.rules)


_OPEN: Final = Area(is_open=True, rules={})
_NOWHERE: Final = Area(is_open=False, rules={})


class RouteScopes:
    """The scopes that the routes of an application declare, found by method and path.

    Every path belongs to an area, named by its first part (below /v1, by the first two). Where no
    route matches, the area decides: a key that may read jobs is told that a path below /v1/jobs
    leads nowhere, and others are refused.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        """Read what the routes declare.

        Raises:
            TypeError: one declares nothing, or contradicts another; says which in one line.

        """
        self._routes = [
            declared
            for context in iter_route_contexts(list(routes))
            for declared in _declared(context)
        ]
        by_area = defaultdict[str, list[_Route]](list)
        for route in self._routes:
            by_area[_area_name(route.path)].append(route)
        self._areas = {name: _area(found) for name, found in by_area.items()}

    def area(self, path: str) -> Area:
        """Return the area that a path belongs to; one without routes if there is none."""
        return self._areas.get(_area_name(path), _NOWHERE)

    def describe(self, document: dict[str, Any], *, required: bool) -> dict[str, Any]:
        """Add to an OpenAPI document what each operation needs, and how it refuses."""
        document["components"]["securitySchemes"] = _SCHEMES
        for route in self._routes:
            operation = document["paths"].get(route.path, {}).get(route.method.lower())
            if operation and route.scope:
                described = [{name: [str(route.scope)]} for name in _SCHEMES]
                operation["security"] = described if required else [*described, {}]
                describe_refusals(operation, Unauthorized, Forbidden, RateLimited)
        return document


def _area_name(path: str) -> str:
    """Return the area of a path: `v1/jobs` of `/v1/jobs/42`, `tasks` of `/tasks/42`."""
    first, _, rest = path[1:].partition("/")
    return f"v1/{rest.partition('/')[0]}" if first == "v1" else first


def _declared(context: RouteContext) -> Iterator[_Route]:
    """Yield a route once for each of its methods."""
    path = context.path_format or ""
    if context.path in _DOCUMENTATION:
        yield _Route("GET", path, context.path_regex, None)
        return
    scope = _declared_scope(context)
    for method in (context.methods or set()) - {"HEAD"}:
        yield _Route(method, path, context.path_regex, scope)


def _declared_scope(context: RouteContext) -> Scope | None:
    """Return the scope that a route declares; None if it needs no key.

    Raises:
        TypeError: it declares nothing, or is one of which nothing can be said.

    """
    if not context.methods:
        raise TypeError(f"{context.path} has no methods that could need a scope")
    route = f"{', '.join(sorted(context.methods))} {context.path}"
    if "{" in _area_name(context.path or ""):
        raise TypeError(f"{route} begins with a parameter: it would be in every area")
    if not hasattr(context.endpoint, _ATTRIBUTE):
        name = getattr(context.endpoint, "__name__", context.endpoint)
        raise TypeError(f"{route} declares no scope: put @needs(…) or @needs_no_key above {name}")
    scope: Scope | None = getattr(context.endpoint, _ATTRIBUTE)
    return scope


def _area(routes: Sequence[_Route]) -> Area:
    """Return the area of these routes.

    Raises:
        TypeError: it is open in part.

    """
    opened = [route for route in routes if route.scope is None]
    closed = [route for route in routes if route.scope]
    if not closed:
        return _OPEN
    if opened:
        one, other = closed[0], opened[0]
        raise TypeError(
            f"{one.method} {one.path} needs a key and {other.method} {other.path} does not: of the "
            "routes below one first part of a path, all are open or none"
        )
    by_method = defaultdict[str, list[_Route]](list)
    for route in closed:
        by_method[route.method].append(route)
    return Area(is_open=False, rules={name: _rules(found) for name, found in by_method.items()})


def _rules(routes: Sequence[_Route]) -> _Rules:
    first, *others = {route.scope for route in routes}
    return _Rules(routes, None if others else first)
