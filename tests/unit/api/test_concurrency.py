import asyncio
import time
from collections.abc import Sequence
from functools import partial

import pytest

from api.concurrency import (
    BackgroundTasks,
    Batcher,
    GroupQueue,
    SharedCalls,
    stop_task,
    wait_for_event,
    yielding,
)

LONG_SECONDS = 30


async def let_others_begin() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


class Doubling:
    """Doubles numbers, in groups that wait for a sign; 0 fails."""

    def __init__(self, at_most: int = 100) -> None:
        self.groups: list[list[int]] = []
        self.go_on = asyncio.Event()
        self.double = Batcher(self._do, at_most)

    async def _do(self, numbers: Sequence[int]) -> list[int]:
        self.groups.append(list(numbers))
        await self.go_on.wait()
        if 0 in numbers:
            raise ValueError(numbers)
        return [2 * number for number in numbers]

    async def begin(self, *numbers: int) -> list[asyncio.Task[int]]:
        tasks = [asyncio.create_task(self.double(number)) for number in numbers]
        await let_others_begin()  # until all have asked and the first group has begun
        return tasks


async def test_item_that_comes_alone_is_done_alone_and_at_once() -> None:
    doubling = Doubling()
    doubling.go_on.set()
    assert [await doubling.double(1), await doubling.double(2)] == [2, 4]
    assert doubling.groups == [[1], [2]]


async def test_what_comes_while_a_group_is_done_is_the_next_group() -> None:
    doubling = Doubling()
    first = await doubling.begin(1)
    later = await doubling.begin(2, 3, 4)
    doubling.go_on.set()
    assert await asyncio.gather(*first, *later) == [2, 4, 6, 8]
    assert doubling.groups == [[1], [2, 3, 4]]


async def test_group_has_a_size() -> None:
    doubling = Doubling(at_most=2)
    tasks = await doubling.begin(1, 2, 3, 4, 5)
    doubling.go_on.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10]
    assert max(map(len, doubling.groups)) == 2


async def test_failure_is_of_its_own_group() -> None:
    doubling = Doubling()
    first = await doubling.begin(0, 1)
    later = await doubling.begin(2)
    doubling.go_on.set()
    for task in first:
        with pytest.raises(ValueError, match="0"):
            await task
    assert await later[0] == 4
    assert await doubling.double(3) == 6


async def test_outcomes_that_are_too_few_fail_the_group_instead_of_leaving_it_waiting() -> None:
    async def forget_the_last(numbers: Sequence[int]) -> Sequence[int]:
        return numbers[:-1]

    batcher = Batcher(forget_the_last, at_most=100)
    with pytest.raises(ValueError, match="shorter"):
        await batcher(1)


async def test_who_goes_leaves_the_others_their_outcomes() -> None:
    doubling = Doubling()
    (begun,) = await doubling.begin(1)
    gone, stays = await doubling.begin(2, 3)
    begun.cancel()
    gone.cancel()
    await asyncio.wait({begun, gone})
    doubling.go_on.set()
    assert await stays == 6
    assert doubling.groups == [[1], [3]]


async def test_what_nobody_waits_for_any_more_is_not_done() -> None:
    doubling = Doubling()
    first = await doubling.begin(1)
    (gone,) = await doubling.begin(2)
    gone.cancel()
    doubling.go_on.set()
    await asyncio.gather(*first)
    assert await doubling.double(3) == 6
    assert doubling.groups == [[1], [3]]


async def test_queue_counts_what_waits_and_is_closed_when_all_is_handled() -> None:
    handled: list[int] = []
    go_on = asyncio.Event()

    async def handle(group: Sequence[int]) -> None:
        await go_on.wait()
        handled.extend(group)

    queue = GroupQueue(handle, at_most=2)
    for number in range(5):
        queue.put(number)
    await let_others_begin()
    assert len(queue) == 3
    closing = asyncio.create_task(queue.close())
    await let_others_begin()
    assert not closing.done()
    go_on.set()
    await closing
    assert handled == [0, 1, 2, 3, 4]


class Calls:
    """Calls that wait for a sign, and return how many there were."""

    def __init__(self) -> None:
        self.count = 0
        self.go_on = asyncio.Event()
        self.shared: SharedCalls[int] = SharedCalls()

    async def call(self, error: Exception | None) -> int:
        self.count += 1
        await self.go_on.wait()
        if error:
            raise error
        return self.count

    async def begin(
        self, *keys: str, error: Exception | None = None
    ) -> list[asyncio.Task[tuple[int, bool]]]:
        call = partial(self.call, error)
        tasks = [asyncio.create_task(self.shared.join(key, call)) for key in keys]
        await let_others_begin()
        return tasks


async def test_call_is_shared_by_all_who_want_the_same_meanwhile() -> None:
    calls = Calls()
    tasks = await calls.begin("a", "a", "a")
    calls.go_on.set()
    assert await asyncio.gather(*tasks) == [(1, False), (1, True), (1, True)]
    assert await calls.shared.join("a", partial(calls.call, None)) == (2, False)


async def test_calls_for_different_things_are_not_shared() -> None:
    calls = Calls()
    tasks = await calls.begin("a", "b")
    calls.go_on.set()
    assert [is_shared for _, is_shared in await asyncio.gather(*tasks)] == [False, False]


async def test_shared_call_goes_on_for_the_others_when_who_made_it_has_gone() -> None:
    calls = Calls()
    gone, stays = await calls.begin("a", "a")
    gone.cancel()
    await asyncio.wait([gone])
    calls.go_on.set()
    assert await stays == (1, True)


async def test_failure_of_a_shared_call_is_raised_to_all_and_not_kept() -> None:
    calls = Calls()
    tasks = await calls.begin("a", "a", error=ValueError("no"))
    calls.go_on.set()
    for task in tasks:
        with pytest.raises(ValueError, match="no"):
            await task
    (again,) = await calls.begin("a")
    assert await again == (2, False)


async def test_background_tasks_are_waited_for_with_those_that_they_start() -> None:
    tasks = BackgroundTasks()
    done: list[str] = []

    async def second() -> None:
        await asyncio.sleep(0)
        done.append("second")

    async def first() -> None:
        await asyncio.sleep(0)
        tasks.start(second())
        done.append("first")

    tasks.start(first())
    await tasks.wait()
    assert done == ["first", "second"]


async def test_background_tasks_can_be_cancelled() -> None:
    tasks = BackgroundTasks()
    tasks.start(asyncio.sleep(LONG_SECONDS))
    await let_others_begin()
    tasks.cancel()
    async with asyncio.timeout(1):
        await tasks.wait()


async def test_task_that_swallows_a_cancel_is_stopped_all_the_same() -> None:
    cancels = 0

    async def stubborn() -> None:
        nonlocal cancels
        while cancels < 2:
            try:
                await asyncio.sleep(LONG_SECONDS)
            except asyncio.CancelledError:
                cancels += 1

    task = asyncio.create_task(stubborn())
    await let_others_begin()
    await stop_task(task)
    assert task.done()


async def test_event_is_waited_for_until_it_is_set() -> None:
    event = asyncio.Event()
    waiting = asyncio.create_task(wait_for_event(event, LONG_SECONDS))
    await let_others_begin()
    event.set()
    assert await waiting is True


@pytest.mark.parametrize("seconds", [0.01, 0, -1])
async def test_event_that_is_not_set_in_time_is_waited_for_no_longer(seconds: float) -> None:
    assert await wait_for_event(asyncio.Event(), seconds) is False


async def test_event_that_is_set_already_needs_no_time() -> None:
    event = asyncio.Event()
    event.set()
    assert await wait_for_event(event, 0) is True


async def test_long_work_on_many_items_lets_others_go_on() -> None:
    numbers: list[int] = []
    seen_by_other: list[int] = []

    async def other() -> None:
        seen_by_other.extend(numbers)

    task = asyncio.create_task(other())
    async for number in yielding(range(3)):
        numbers.append(number)
        time.sleep(0.005)  # noqa: ASYNC251 - it is the work that keeps the loop busy
    assert task.done()
    assert numbers == [0, 1, 2]
    assert len(seen_by_other) < 3
