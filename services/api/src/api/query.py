"""A query parameter that no route knows is an error: a misspelt one would silently do nothing."""

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.errors import InvalidField, InvalidRequest


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
