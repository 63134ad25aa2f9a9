"""How the OpenAPI document describes the errors of each operation."""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from api.errors.rendering import members_of
from api.errors.types import (
    MEDIA_TYPE,
    ApiError,
    BodyTooLarge,
    BrokerUnavailable,
    IdempotencyKeyReused,
    InvalidField,
    InvalidRequest,
    LaneFull,
    MalformedBody,
    OutcomeUnknown,
    Overloaded,
    ResultsUnavailable,
)

BODY_ERRORS: Final = (MalformedBody, BodyTooLarge)
"""What may be wrong with any body."""
PUBLISH_ERRORS: Final = (BrokerUnavailable, LaneFull, OutcomeUnknown)
"""Why a job may not be queued."""
SUBMIT_ERRORS: Final = (
    *(InvalidRequest, IdempotencyKeyReused),
    *PUBLISH_ERRORS,
    *(Overloaded, ResultsUnavailable),
)
"""What the submission of a job may answer, apart from its body."""


class Problem(BaseModel):
    """RFC 9457 problem details with a stable `code`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["/docs#problem-job-not-found"])
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable: programs may depend on it.")
    errors: list[InvalidField] | None = None


def responses(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route for its OpenAPI document, with an example of each."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        response = by_status.setdefault(
            int(error.status),
            {"model": Problem, "description": "", "content": {MEDIA_TYPE: {"examples": {}}}},
        )
        response["description"] += f"`{error.code}`: {error.title}. "
        response["content"][MEDIA_TYPE]["examples"][error.code] = {"value": _example(error)}
    return by_status


def _example(error: type[ApiError]) -> dict[str, Any]:
    example = members_of(error, error.__doc__ or error.title)
    if issubclass(error, InvalidRequest):
        example["errors"] = [{"field": "month", "value": "2025-13", "rule": "must be YYYY-MM"}]
    return example


def describe_problems(document: dict[str, Any]) -> dict[str, Any]:
    """Give the errors of an OpenAPI document their media type: FastAPI knows that of the route."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                content = response.get("content", {})
                for other in content.keys() - {MEDIA_TYPE} if MEDIA_TYPE in content else ():
                    content[MEDIA_TYPE] |= content.pop(other)
                for media in content.values():
                    if "itemSchema" in media:  # a keyword of OpenAPI 3.2; the document is 3.1
                        media["schema"] = media.pop("itemSchema") | {"description": "Each event."}
    return document


def describe_refusals(operation: dict[str, Any], *errors: type[ApiError]) -> None:
    """Add errors that are raised before a route is reached to its operation in the document."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    for status, response in responses(*errors).items():
        content = {MEDIA_TYPE: {"schema": schema} | response["content"][MEDIA_TYPE]}
        described = {"description": response["description"], "content": content}
        operation["responses"].setdefault(str(status), described)
