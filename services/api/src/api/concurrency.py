"""What asyncio leaves to its users: doing things in groups, sharing calls, keeping tasks."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_CANCEL_AGAIN_SECONDS: Final = 0.2
_BUSY_SECONDS: Final = 0.003
"""For so long a request may keep the event loop to itself."""


class GroupQueue(Generic[Item]):
    """Handles items in groups: what comes while a group is being handled is the next group.

    What comes alone waits for nobody. `handle` gets at most `at_most` items, and raises nothing.
    """

    def __init__(
        self, handle: Callable[[Sequence[Item]], Coroutine[Any, Any, None]], at_most: int
    ) -> None:
        self._handle = handle
        self._at_most = at_most
        self._waiting: list[Item] = []
        self._worker: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: Item) -> None:
        """Have an item handled."""
        self._waiting.append(item)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Return when all items have been handled."""
        while self._worker and not self._worker.done():
            await asyncio.wait([self._worker])

    async def _work(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[: self._at_most], self._waiting[self._at_most :]
            await self._handle(group)


class Batcher(Generic[Item, Outcome]):
    """Does together what is asked for one by one, in the groups of a `GroupQueue`.

    `do` takes at most `at_most` items and returns an outcome for each, in their order; what it
    raises is raised to all who wait for that group.
    """

    def __init__(
        self, do: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]], at_most: int
    ) -> None:
        self._do = do
        self._queue = GroupQueue(self._do_group, at_most)

    async def __call__(self, item: Item) -> Outcome:
        """Return the outcome of one item."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._queue.put((item, outcome))
        return await outcome

    async def _do_group(self, group: Sequence[tuple[Item, "asyncio.Future[Outcome]"]]) -> None:
        wanted = [(item, future) for item, future in group if not future.done()]
        if not wanted:  # who waited has gone
            return
        try:
            outcomes = await self._do([item for item, _ in wanted])
            for (_, future), outcome in zip(wanted, outcomes, strict=True):
                if not future.done():
                    future.set_result(outcome)
        except Exception as exc:  # noqa: BLE001 - it is of those who wait
            for _, future in wanted:
                if not future.done():
                    future.set_exception(exc)


class SharedCalls(Generic[Outcome]):
    """Makes one call for all who want the same at the same time; a key says what is the same."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[Outcome]] = {}

    async def join(
        self, key: str, call: Callable[[], Coroutine[Any, Any, Outcome]]
    ) -> tuple[Outcome, bool]:
        """Return the outcome of the running call, or else of a new one, and whether one ran.

        A call goes on when those who wait for it have gone.
        """
        task = self._running.get(key)
        is_shared = task is not None
        if task is None:
            task = self._running[key] = asyncio.create_task(call())
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task), is_shared

    def _forget(self, key: str, task: asyncio.Task[Outcome]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # who waited may have gone: nobody else would look


class BackgroundTasks:
    """Tasks that nobody waits for, kept until they are done: asyncio itself keeps none."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin to work."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        """Return when all are done, those that begin meanwhile too."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        """Cancel all, without waiting for their ends."""
        for task in self._tasks:
            task.cancel()


async def stop_task(task: asyncio.Task[None]) -> None:
    """Cancel a task, and return when it has ended.

    More than once, if need be: aiormq makes an error of its own of a cancel that meets it as the
    connection ends, and the task would go on.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_AGAIN_SECONDS)


async def wait_for_event(event: asyncio.Event, seconds: float) -> bool:
    """Return as soon as an event is set, or after so many seconds; return whether it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def yielding(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items, and let other requests go on whenever this one has been busy for long."""
    began = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - began > _BUSY_SECONDS:
            await asyncio.sleep(0)
            began = time.monotonic()
