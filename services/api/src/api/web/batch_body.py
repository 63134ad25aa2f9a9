"""The body of a batch: read piece by piece as it comes in, within the limits that it has."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import ClientDisconnect, Request

from api.batches.store import BODY_SECONDS
from api.errors.types import BodyTooLarge, BodyTooSlow, InvalidField, InvalidRequest, MalformedBody

_SLICE_BYTES: Final = 64 * 1024


def check_length(request: Request, limit: int) -> None:
    """Refuse a body whose header says that it is too large, before any of it is published.

    Raises:
        BodyTooLarge: it is.

    """
    length = request.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > limit:
        raise BodyTooLarge(limit, "MAX_BODY_BYTES")


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes in.

    Raises:
        MalformedBody: the client went away.
        BodyTooSlow: it took too long.

    """
    stream = request.stream()
    deadline = asyncio.get_running_loop().time() + BODY_SECONDS
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as exc:
            raise BodyTooSlow(BODY_SECONDS) from exc
        except ClientDisconnect as exc:
            raise MalformedBody("The connection was closed before the body's end.") from exc
        yield piece


async def slices(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body that was read already, as if it came in now."""
    for start in range(0, len(body), _SLICE_BYTES):
        yield body[start : start + _SLICE_BYTES]


async def counted(items: AsyncIterator[object], limit: int) -> AsyncIterator[object]:
    """Yield the items if there are as many as there may be.

    Raises:
        InvalidRequest: there are more, or none.

    """
    count = 0
    async for item in items:
        count += 1
        if count > limit:
            raise _wrong_size(count, f"1 to {limit:,} items (MAX_BATCH_ITEMS); no more were read")
        yield item
    if count == 0:
        raise _wrong_size(count, f"1 to {limit:,} items (MAX_BATCH_ITEMS)")


def _wrong_size(count: int, bounds: str) -> InvalidRequest:
    value = f"{count:,} items"
    return InvalidRequest([InvalidField(field="body", value=value, rule=f"must have {bounds}")])
