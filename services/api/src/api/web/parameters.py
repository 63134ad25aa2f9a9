"""What every route makes of a request's parameters: how long to wait, and which are unknown."""

import re
from typing import Final

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.errors.types import InvalidField, InvalidRequest

MAX_WAIT_SECONDS: Final = 60
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?(?=$|[,;\s])", re.IGNORECASE)


def preferred_wait_seconds(header: str | None) -> int:
    """Return the seconds that a client would wait, at most MAX_WAIT_SECONDS; 0 without a wish.

    A preference that can't be read is ignored, as the RFC asks.
    """
    match = _WAIT.search(header or "")
    return min(int(match[1]), MAX_WAIT_SECONDS) if match else 0


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse query parameters that the route does not declare.

    Raises:
        InvalidRequest: there are such; it names those that there may be.

    """
    route = request.scope.get("route")
    if not request.scope["query_string"] or not isinstance(route, APIRoute):
        return
    known = _names(route.dependant)
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        rule = f"is no parameter of this route; known are: {', '.join(sorted(known)) or 'none'}"
        raise InvalidRequest(
            [
                InvalidField(field=name, value=request.query_params[name], rule=rule)
                for name in unknown
            ]
        )


def _names(dependant: Dependant) -> set[str]:
    names = {parameter.alias for parameter in dependant.query_params}
    return names.union(*map(_names, dependant.dependencies))
