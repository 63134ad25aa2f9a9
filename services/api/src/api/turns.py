"""Long work in turns: no request keeps the others waiting for more than some milliseconds."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Final, TypeVar

T = TypeVar("T")

TURN_SECONDS: Final = 0.003


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items, and let other requests have their turn when one's own has been long."""
    began = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - began > TURN_SECONDS:
            await asyncio.sleep(0)
            began = time.monotonic()
