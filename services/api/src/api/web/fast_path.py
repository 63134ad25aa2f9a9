"""The fast path: the routes that are called most answer several times as many requests by it.

FastAPI works out for each request which route it is for and what the route's function takes. For
a route with `@fast_path` that is worked out once, when the application is made, from what FastAPI
knows of the function. Plain requests are answered here: those without a query string, whose
headers and body are valid. All others go FastAPI's way, which says what is wrong with them.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Annotated, Any, Final, Self, TypeAlias, TypeVar

from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors.rendering import to_response
from api.errors.types import ApiError

Headers: TypeAlias = Mapping[bytes, bytes]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Response]])

_ATTRIBUTE: Final = "is_on_fast_path"
"""Where a route's function keeps that it was declared so."""
_JSON: Final = b"application/json"
_PARAMETER: Final = re.compile(r"\{[^/]*\}$")


def fast_path(endpoint: Endpoint) -> Endpoint:
    """Put the route of a function on the fast path.

    The function and those that it depends on are `async`. They may take the request, headers and
    query parameters with a default, the last part of the path, and a model as the body. An
    application with a function on the fast path that takes anything else does not start.
    """
    setattr(endpoint, _ATTRIBUTE, True)
    return endpoint


class FastPath:
    """ASGI middleware: answers plain requests of fast routes, and passes the others on."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._table = _Table(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on as if nobody had looked at it."""
        is_plain = scope["type"] == "http" and not scope["query_string"]
        destination = self._table.find(scope["method"], scope["path"]) if is_plain else None
        if destination is None:
            await self._app(scope, receive, send)
            return
        request, body = Request(scope, receive), b""
        try:
            if destination.body:
                body = await request.body()
            answer = await destination.answer(request, body)
        except _NotPlainError:
            await self._app(scope, _again(body, receive), send)
            return
        except ApiError as error:
            answer = to_response(error)
        except ClientDisconnect:
            return
        await answer(scope, receive, send)


class _NotPlainError(Exception):
    """The request breaks a rule, or says what it says in an unusual way."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    """What a function takes of a request under a name, and what that must be like."""

    name: str
    alias: bytes
    type: TypeAdapter[Any]
    is_required: bool
    default: Any

    def read(self, value: str) -> Any:  # noqa: ANN401 - of its type
        try:
            return self.type.validate_python(value)
        except ValidationError as exc:
            raise _NotPlainError from exc

    def read_body(self, body: bytes, headers: Headers) -> Any:  # noqa: ANN401 - of its type
        if not body and not self.is_required:
            return self.default
        if headers.get(b"content-type", b"").partition(b";")[0] != _JSON:
            raise _NotPlainError
        try:
            return self.type.validate_json(body)
        except ValidationError as exc:
            raise _NotPlainError from exc


@dataclass(frozen=True, slots=True)
class _Function:
    """A function, and where what it takes comes from."""

    call: Callable[..., Awaitable[Any]]
    defaults: Mapping[str, Any]
    headers: tuple[_Parameter, ...]
    request_name: str | None
    dependencies: tuple[tuple[str | None, Self], ...]
    """Functions to call before, with the names under which this one takes what they return."""

    async def result(self, request: Request, headers: Headers, given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever the function returns
        """Call the function with what is given and what else it takes of the request."""
        arguments = {**self.defaults, **given}
        for header in self.headers:
            if header.alias in headers:
                arguments[header.name] = header.read(headers[header.alias].decode("latin-1"))
        if self.request_name:
            arguments[self.request_name] = request
        for name, dependency in self.dependencies:
            result = await dependency.result(request, headers, {})
            if name:
                arguments[name] = result
        return await self.call(**arguments)


@dataclass(frozen=True, slots=True)
class _Destination:
    """A fast route: its function, and what only a route's function takes."""

    function: _Function
    last_part: _Parameter | None
    body: _Parameter | None

    async def answer(self, request: Request, body: bytes) -> Response:
        """Return what the route's function answers.

        Raises:
            _NotPlainError: it was not called.

        """
        scope, given = request.scope, {}
        headers = dict(reversed(scope["headers"]))  # the first of a name counts, as with FastAPI
        if self.last_part:
            given[self.last_part.name] = self.last_part.read(scope["path"].rpartition("/")[2])
        if self.body:
            given[self.body.name] = self.body.read_body(body, headers)
        response: Response = await self.function.result(request, headers, given)
        return response


class _Table:
    """The fast routes, by method and path; `{}` stands for a last part that is a parameter."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        contexts = list(iter_route_contexts(list(routes)))
        self._destinations = {
            (method, _PARAMETER.sub("{}", context.path)): _destination(context)
            for context in contexts
            if _is_fast(context) and context.path
            for method in context.methods or ()
        }
        for context in contexts:
            self._check(context)

    def find(self, method: str, path: str) -> _Destination | None:
        """Return where a request goes, or None if that is no fast route."""
        destination = self._destinations.get((method, path))
        if destination is None:
            folder, _, last = path.rpartition("/")
            if last:
                destination = self._destinations.get((method, folder + "/{}"))
        return destination

    def _check(self, context: RouteContext) -> None:
        """Check that a fast route can be found, and that none hides another route."""
        for method in context.methods or ():
            if _is_fast(context) != bool(self.find(method, context.path or "")):
                raise TypeError(f"{method} {context.path} and the fast routes hide each other")


def _is_fast(context: RouteContext) -> bool:
    return hasattr(context.endpoint, _ATTRIBUTE)


def _destination(context: RouteContext) -> _Destination:
    dependant: Dependant = context.dependant
    path, body = dependant.path_params, dependant.body_params
    if len(path) > 1 or len(body) > 1:
        raise TypeError(f"{context.path} takes what the fast path can't give: see @fast_path")
    return _Destination(
        function=_function(dependant),
        last_part=_parameter(path[0]) if path else None,
        body=_parameter(body[0]) if body else None,
    )


def _function(dependant: Dependant) -> _Function:
    call = dependant.call
    optional = [*dependant.query_params, *dependant.header_params]
    foreign = [
        dependant.cookie_params,
        dependant.response_param_name,
        dependant.background_tasks_param_name,
        dependant.http_connection_param_name,
        dependant.security_scopes_param_name,
        *(field.field_info.is_required() for field in optional),
    ]
    if call is None or not iscoroutinefunction(call) or any(foreign):
        raise TypeError(f"{call} takes what the fast path can't give: see @fast_path")
    return _Function(
        call=call,
        defaults={field.name: field.get_default() for field in optional},
        headers=tuple(map(_parameter, dependant.header_params)),
        request_name=dependant.request_param_name,
        dependencies=tuple((need.name, _function(need)) for need in dependant.dependencies),
    )


def _parameter(field: ModelField) -> _Parameter:
    info = field.field_info
    annotated: Any = Annotated[info.annotation, info]
    return _Parameter(
        name=field.name,
        alias=field.alias.lower().encode(),
        type=TypeAdapter(annotated),
        is_required=info.is_required(),
        default=field.get_default(),
    )


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that begins with a body that was read already."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
