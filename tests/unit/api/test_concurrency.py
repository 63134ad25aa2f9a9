import asyncio
from collections.abc import Sequence

import pytest

from api.concurrency import Grouped


class Doubling:
    """Doubles numbers, in groups that wait for a sign; 0 fails."""

    def __init__(self, at_once: int = 100) -> None:
        self.groups: list[list[int]] = []
        self.go_on = asyncio.Event()
        self.double = Grouped(self._do, at_once)

    async def _do(self, numbers: Sequence[int]) -> list[int]:
        self.groups.append(list(numbers))
        await self.go_on.wait()
        if 0 in numbers:
            raise ValueError(numbers)
        return [2 * number for number in numbers]

    async def begin(self, *numbers: int) -> list[asyncio.Task[int]]:
        tasks = [asyncio.create_task(self.double(number)) for number in numbers]
        for _ in range(3):
            await asyncio.sleep(0)  # until all have asked and the first group has begun
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
    doubling = Doubling(at_once=2)
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
