"""Every error a client can get, as RFC 9457 problem documents. Status codes live here only."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final

from pydantic import BaseModel
from starlette.exceptions import HTTPException

MEDIA_TYPE: Final = "application/problem+json"
NOT_READY: Final = HTTPStatus.SERVICE_UNAVAILABLE
"""What /readyz answers while something is missing; its body is no problem but says what."""

_MAX_ECHO_CHARACTERS: Final = 200
_MAX_ECHO_ERRORS: Final = 100


class InvalidField(BaseModel):
    """One thing that is wrong with a request: where, what it was, and the rule it breaks."""

    field: str
    value: Any = None
    rule: str


class ApiError(Exception):
    """What a client is told when something can't be done."""

    status: HTTPStatus
    code: str
    title: str
    retry_after_seconds: ClassVar[int | None] = None
    headers: Mapping[str, str] = {}

    def __init__(self, detail: str, **members: Any) -> None:  # noqa: ANN401 - JSON
        super().__init__(detail)
        self.detail = detail
        self.members = members


class InvalidRequest(ApiError):
    """The request breaks rules; `errors` names each field, its value and the rule."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "invalid-request"
    title = "The request is not valid"

    def __init__(self, errors: Sequence[InvalidField]) -> None:
        shown = errors[:_MAX_ECHO_ERRORS]
        detail = "; ".join(f"{error.field}: {error.rule}" for error in shown)
        if len(errors) > len(shown):
            detail += f"; and {len(errors) - len(shown):,} more"
        super().__init__(detail, errors=[error.model_dump(mode="json") for error in shown])


class IdempotencyKeyReused(ApiError):
    """The Idempotency-Key stands for another request already."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "idempotency-key-reused"
    title = "This Idempotency-Key was used for another request"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"It was first used with another body, which became {job_id}. Send that body again to "
            "be told of it, or a new key with this one.",
            id=job_id,
        )


class MalformedBody(ApiError):
    """The body is not what its Content-Type says."""

    status = HTTPStatus.BAD_REQUEST
    code = "malformed-body"
    title = "The body can't be read"


class HostNotAllowed(InvalidRequest):
    """A URL's host is outside the allow-list."""

    code = "host-not-allowed"
    title = "Jobs may not call this host"


class RecipientNotAllowed(InvalidRequest):
    """A mail address is outside the allow-list."""

    code = "recipient-not-allowed"
    title = "Reports may not be sent to this address"


class Unauthorized(ApiError):
    """No key, or one that is not known."""

    status = HTTPStatus.UNAUTHORIZED
    code = "unauthorized"
    title = "A key is needed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.headers = {"WWW-Authenticate": "Bearer"}


class Forbidden(ApiError):
    """The key is known, and does not have the scope that the route needs."""

    status = HTTPStatus.FORBIDDEN
    code = "forbidden"
    title = "The key may not do this"


class RateLimited(ApiError):
    """Too many requests in a while, of one key or from one address; `limit` says how many."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "rate-limited"
    title = "Too many requests"

    def __init__(self, whose: str, limit: str, retry_after_seconds: int) -> None:
        super().__init__(f"{whose}: at most {limit} in each API process.", limit=limit)
        self.headers = {"Retry-After": str(retry_after_seconds)}


class HeadersTooLarge(ApiError):
    """More bytes of headers than any client needs."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    code = "headers-too-large"
    title = "The headers are too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The limit is {limit:,} bytes.", limit_bytes=limit)


class TaskNotFound(ApiError):
    """No task of that name in the catalogue."""

    status = HTTPStatus.NOT_FOUND
    code = "task-not-found"
    title = "There is no such task"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        shown = shortened(name)
        super().__init__(f"No task {shown!r}; there are: {', '.join(known)}.", task=shown)


class JobNotFound(ApiError):
    """No record of that id: never submitted, or its lifetime is over."""

    status = HTTPStatus.NOT_FOUND
    code = "job-not-found"
    title = "There is no such job"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"No job {job_id!r} is known; it was never accepted or has expired.")


class BatchNotFound(ApiError):
    """No batch of that id."""

    status = HTTPStatus.NOT_FOUND
    code = "batch-not-found"
    title = "There is no such batch"

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"No batch {batch_id!r} is known; it was never accepted or has expired.")


class FileNotFound(ApiError):
    """No uploaded file of that id."""

    status = HTTPStatus.NOT_FOUND
    code = "file-not-found"
    title = "There is no such file"

    def __init__(self, file_id: str) -> None:
        super().__init__(f"No file {file_id!r} is stored; upload it with POST /v1/files.")


class ArtifactNotFound(ApiError):
    """The job left no artifact of that name."""

    status = HTTPStatus.NOT_FOUND
    code = "artifact-not-found"
    title = "There is no such artifact"

    def __init__(self, job_id: str, name: str) -> None:
        super().__init__(f"Job {job_id!r} has no artifact {name!r}; list them without a name.")


class DeadLetterNotFound(ApiError):
    """No dead letter of that id: it was requeued or discarded, or never was."""

    status = HTTPStatus.NOT_FOUND
    code = "dead-letter-not-found"
    title = "There is no such dead letter"


class DeadLetterNotRequeueable(ApiError):
    """Running the job of this dead letter again is impossible or would do harm."""

    status = HTTPStatus.CONFLICT
    code = "dead-letter-not-requeueable"
    title = "The dead letter can't be requeued"


class JobNotFinished(ApiError):
    """A result was asked for too early."""

    status = HTTPStatus.CONFLICT
    code = "job-not-finished"
    title = "The job has not finished"
    retry_after_seconds = 1


class JobHasNoResult(ApiError):
    """The job ended without a result: it failed or was cancelled."""

    status = HTTPStatus.CONFLICT
    code = "job-has-no-result"
    title = "The job ended without a result"


class RangeNotSatisfiable(ApiError):
    """The wanted bytes are not in the artifact."""

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    code = "range-not-satisfiable"
    title = "The range lies outside the artifact"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The artifact has {size_bytes:,} bytes.", size_bytes=size_bytes)
        self.headers = {"Content-Range": f"bytes */{size_bytes}"}


class BodyTooLarge(ApiError):
    """More bytes than the limit; reading stopped there."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "body-too-large"
    title = "The body is too large"

    def __init__(self, limit: int, setting: str) -> None:
        super().__init__(f"The limit is {limit:,} bytes ({setting}).", limit_bytes=limit)


class BodyTooSlow(ApiError):
    """The body did not come in within the time that it has; reading stopped there."""

    status = HTTPStatus.REQUEST_TIMEOUT
    code = "body-too-slow"
    title = "The body comes in too slowly"

    def __init__(self, seconds: int) -> None:
        super().__init__(f"It has {seconds} s to come in. Send it in several batches.")


class BrokerUnavailable(ApiError):
    """RabbitMQ can't be reached or did not take the job; nothing was queued."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "broker-unavailable"
    title = "The broker is not available"
    retry_after_seconds = 5


class Overloaded(ApiError):
    """More submissions wait in this process than it keeps; nothing was queued."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "overloaded"
    title = "Too many submissions at once"
    retry_after_seconds = 1

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit:,} submissions wait already, the most that one process of the API keeps. Send "
            "it again in a moment."
        )


class LaneFull(ApiError):
    """The lane's queue refused the job; nothing was queued."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "lane-full"
    title = "The lane is full"
    retry_after_seconds = 30


class OutcomeUnknown(ApiError):
    """The broker did not confirm in time: the job runs or fails later, and its record says so."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "outcome-unknown"
    title = "The broker did not confirm the job in time"
    retry_after_seconds = 5

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"Job {job_id} may have been queued; it will be, or fail, once the broker is back. "
            f"GET /v1/jobs/{job_id} before submitting again, or submit with an Idempotency-Key.",
            job_id=job_id,
        )


class RequeueOutcomeUnknown(ApiError):
    """The broker did not confirm a dead letter's job in time: it may run. The letter stays."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "requeue-outcome-unknown"
    title = "The broker did not confirm the requeued job in time"
    retry_after_seconds = 5

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"Job {job_id} may run again, and its dead letter stays: requeue it if GET "
            f"/v1/jobs/{job_id} still says that it failed, else discard it.",
            job_id=job_id,
        )


class ResultsUnavailable(ApiError):
    """Redis can't be reached or did not answer in time."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "results-unavailable"
    title = "The result backend is not available"
    retry_after_seconds = 5


class DeadLettersBusy(ApiError):
    """Somebody else holds the dead letters; only one can read them at a time."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "dead-letters-busy"
    title = "Somebody else reads the dead letters"
    retry_after_seconds = 2

    def __init__(self) -> None:
        super().__init__("Only one request at a time can read the dead letters; try again.")


class UpstreamUnavailable(ApiError):
    """The service that /sequential calls did not answer."""

    status = HTTPStatus.BAD_GATEWAY
    code = "upstream-unavailable"
    title = "The upstream service did not answer"


class InternalError(ApiError):
    """A bug of ours."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "internal-error"
    title = "Something went wrong here"


class FrameworkError(ApiError):
    """What the framework refused itself: an unknown path, a wrong method."""

    def __init__(self, method: str, path: str, exc: HTTPException) -> None:
        super().__init__(f"{method} {path}: {exc.detail}")
        self.status = HTTPStatus(exc.status_code)
        self.title = self.status.phrase
        self.code = self.title.lower().replace(" ", "-")
        self.headers = exc.headers or {}


def no_route(method: str, path: str, allowed: Sequence[str]) -> FrameworkError:
    """Return the framework's error for a path that has no route, or none with this method."""
    status = HTTPStatus.METHOD_NOT_ALLOWED if allowed else HTTPStatus.NOT_FOUND
    headers = {"Allow": ", ".join(allowed)} if allowed else None
    return FrameworkError(method, path, HTTPException(status, headers=headers))


def shortened(text: str) -> str:
    """Return a client's text as an answer may repeat it."""
    shown = text[:_MAX_ECHO_CHARACTERS] + ("…" if len(text) > _MAX_ECHO_CHARACTERS else "")
    # JSON can spell half a surrogate pair, which no answer can carry.
    return shown.encode(errors="backslashreplace").decode()
