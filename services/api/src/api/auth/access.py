"""Who may do what: asked here and nowhere else, before anything reads the request."""

from collections.abc import Iterable
from typing import Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from api.auth.api_keys import ApiKey, KeysByDigest, Scope, find_key
from api.auth.rate_limits import RateLimits
from api.auth.scopes import Area, RouteScopes
from api.errors.rendering import to_response
from api.errors.types import ApiError, Forbidden, Unauthorized, no_route

_CALLER: Final = "twinlane.caller"


class Access:
    """ASGI middleware: lets a request pass that has a key with the scope its route needs."""

    def __init__(
        self, app: ASGIApp, scopes: RouteScopes, keys: KeysByDigest, limits: RateLimits
    ) -> None:
        self._app = app
        self._scopes = scopes
        self._keys = keys
        self._limits = limits

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Pass the request on with the name of its key, or answer 401, 403 or 429."""
        if scope["type"] == "http" and not (area := self._scopes.area(scope["path"])).is_open:
            refusal = self._admit(scope, area)
            if refusal is not None:
                await to_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: AsgiScope, area: Area) -> ApiError | None:
        """Note who calls; return why the request is refused, or None."""
        client = scope["client"]
        address = client[0] if client else ""
        presented = _presented(scope["headers"])
        key = find_key(self._keys, presented) if presented else None
        if key is None:
            return self._limits.count_failure(address) or _unauthorized(presented)
        if too_many := self._limits.count(key.name, address):
            return too_many
        needed = area.needed(scope["method"], scope["path"])
        if needed is None:
            return no_route(scope["method"], scope["path"], area.methods)
        if not key.allows(needed):
            return _forbidden(key, needed)
        scope[_CALLER] = key.name
        return None


def caller_name(request: HTTPConnection) -> str:
    """Return the name of the key that a request came with; "" when no keys are configured."""
    name: str = request.scope.get(_CALLER, "")
    return name


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


def _forbidden(key: ApiKey, needed: Scope) -> Forbidden:
    scopes = sorted(key.scopes)
    return Forbidden(
        f"This needs a key with the scope {needed}; key {key.name} has: {', '.join(scopes)}.",
        scope=needed,
        scopes=scopes,
    )
