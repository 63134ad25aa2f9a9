"""Errors as problem documents (RFC 9457): what a client gets to read."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from api.errors.types import (
    MEDIA_TYPE,
    ApiError,
    FrameworkError,
    InternalError,
    InvalidField,
    InvalidRequest,
    MalformedBody,
    shortened,
)

logger = logging.getLogger(__name__)


def validation_problem(
    exc: RequestValidationError | ValidationError, within: str = "body"
) -> InvalidRequest:
    """Turn pydantic's errors into one that names field, value and rule.

    `within` stands for the field where an error concerns the whole.
    """
    return InvalidRequest([_invalid_field(error, within) for error in exc.errors()])


def _invalid_field(error: Mapping[str, Any], within: str) -> InvalidField:
    location = [str(part) for part in error["loc"] if part not in {"body", "query", "path"}]
    value = None if error["type"] == "missing" else error.get("input")
    return InvalidField(
        field=shortened(".".join(location)) or within,
        value=_echo(value),
        rule=str(error["msg"]).removeprefix("Value error, "),
    )


def _echo(value: Any) -> Any:  # noqa: ANN401 - whatever the client sent
    """Return the value as it was, shortened: an error is no place for megabytes."""
    if value is None or isinstance(value, bool | float):
        return value
    try:
        text = value if isinstance(value, str) else str(jsonable_encoder(value))
    except ValueError:  # an integer of too many digits has no text
        return f"<{type(value).__name__}>"
    short = shortened(text)
    return value if isinstance(value, int) and short == text else short


def malformed_json(exc: Exception) -> MalformedBody:
    """Return the error of a body that should be JSON: `exc` is what reading it raised."""
    match exc:
        case RecursionError():
            reason = "it is nested too deeply"
        case UnicodeDecodeError() | json.JSONDecodeError():
            reason = str(exc)
        case _:
            reason = "it has a number of too many digits"
    return MalformedBody(f"The body is not JSON: {reason}.")


def problem_body(error: ApiError) -> dict[str, Any]:
    """Return the members of a problem document."""
    return members_of(error, error.detail) | error.members


def members_of(error: ApiError | type[ApiError], detail: str) -> dict[str, Any]:
    """Return the members that every problem document has."""
    return {
        "type": f"/docs#problem-{error.code}",
        "title": error.title,
        "status": int(error.status),
        "detail": detail,
        "code": error.code,
    }


def to_response(error: ApiError) -> JSONResponse:
    """Render an error as a problem document."""
    headers = dict(error.headers)
    if error.retry_after_seconds:
        headers["Retry-After"] = str(error.retry_after_seconds)
    return JSONResponse(problem_body(error), int(error.status), headers, media_type=MEDIA_TYPE)


def register(app: FastAPI) -> None:
    """Make every error of the app a problem document."""

    @app.exception_handler(ApiError)
    async def api_error(_: Request, exc: ApiError) -> JSONResponse:
        return to_response(exc)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, exc: RequestValidationError) -> JSONResponse:
        if any(error["type"] == "json_invalid" for error in exc.errors()):
            return to_response(MalformedBody(f"The body is not JSON: {exc.errors()[0]['msg']}."))
        return to_response(validation_problem(exc))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, exc: HTTPException) -> JSONResponse:
        # FastAPI wraps what fails while it reads a body; our own errors come out as they were.
        if isinstance(exc.__cause__, ApiError):
            return to_response(exc.__cause__)
        if isinstance(exc.__cause__, ValueError | RecursionError):
            return to_response(malformed_json(exc.__cause__))
        return to_response(FrameworkError(request.method, request.url.path, exc))

    @app.exception_handler(Exception)
    async def bug(request: Request, exc: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=exc)
        return to_response(InternalError("This is a bug of the service; its log has the trace."))
