"""Doing together what is asked for one by one."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Grouped(Generic[Item, Outcome]):
    """Does things in groups: what comes while a group is being done is the next group.

    What comes alone waits for nobody. `do` takes at most `at_once` items and returns an outcome
    for each, in their order; what it raises is raised to all who wait for that group.
    """

    def __init__(
        self, do: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]], at_once: int
    ) -> None:
        self._do = do
        self._at_once = at_once
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Outcome:
        """Return the outcome of one item."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, outcome))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await outcome

    async def _work(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[: self._at_once], self._waiting[self._at_once :]
            open_items = [(item, future) for item, future in group if not future.cancelled()]
            try:
                outcomes = await self._do([item for item, _ in open_items])
            except Exception as exc:  # noqa: BLE001 - it is of those who wait
                for _, future in open_items:
                    if not future.done():
                        future.set_exception(exc)
                continue
            for (_, future), outcome in zip(open_items, outcomes, strict=True):
                if not future.done():  # who waited may have gone
                    future.set_result(outcome)


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
