"""Whether the process lives, and whether it can do its work."""

import asyncio
from collections.abc import Awaitable
from typing import Literal

import obstore
from fastapi import APIRouter, Response
from obstore.store import ObjectStore
from pydantic import BaseModel

from api.auth.scopes import needs_no_key
from api.components import Uses
from api.errors.types import NOT_READY, ApiError

router = APIRouter(tags=["health"])


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Dependency(BaseModel):
    """One of the servers that the API needs."""

    ready: bool
    reason: str | None = None


class Readiness(BaseModel):
    """Whether jobs can be accepted, and if not, because of what."""

    ready: bool
    broker: Dependency
    results: Dependency
    storage: Dependency


@router.get("/livez", summary="Is the process alive?")
@needs_no_key
async def live() -> Liveness:
    """Answer, without asking anybody else."""
    return Liveness()


@router.get(
    "/readyz",
    summary="Can jobs be accepted?",
    responses={int(NOT_READY): {"model": Readiness, "description": "Not now; the body says why."}},
)
@needs_no_key
async def ready(components: Uses, response: Response) -> Readiness:
    """Ask RabbitMQ, Redis and the storage for a sign of life, at the same time."""
    publisher = components.publisher
    broker, results, storage = await asyncio.gather(
        _check(publisher.ready(publisher.deadline())),
        _check(components.redis.ping()),
        _check(_reach(components.storage)),
    )
    everything = all(dependency.ready for dependency in (broker, results, storage))
    if not everything:
        response.status_code = NOT_READY
    return Readiness(ready=everything, broker=broker, results=results, storage=storage)


async def _check(answer: Awaitable[None]) -> Dependency:
    try:
        async with asyncio.timeout(1.9):
            await answer
    except ApiError as exc:
        return Dependency(ready=False, reason=exc.detail)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the reason
        return Dependency(ready=False, reason=f"{type(exc).__name__}: {exc}")
    return Dependency(ready=True)


async def _reach(storage: ObjectStore) -> None:
    # A folder that does not exist: the storage has to answer, and has nothing to list.
    await obstore.list_with_delimiter_async(storage, "readiness/")
