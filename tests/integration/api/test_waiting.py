"""One subscription of a process wakes all who wait in it, and misses nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from redis.asyncio import Redis

from api.errors.types import ResultsUnavailable
from api.store import changes as state_changes
from api.store.changes import StateChanges
from api.store.redis import RedisClient
from contracts.keys import meta_key
from contracts.states import FAILURE_STATE, STARTED_STATE, SUCCESS_STATE
from integration.proxy import Proxy

WAITERS = 1_000
PATIENCE_SECONDS = 30


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[StateChanges]:
    redis = RedisClient(url, timeout_seconds=1.5)
    changes = StateChanges(redis)
    changes.start()
    try:
        yield changes
    finally:
        await changes.close()
        await redis.close()


@pytest.fixture
async def changes(result_url: str) -> AsyncIterator[StateChanges]:
    async with listening(result_url) as changes:
        yield changes


@pytest.fixture
async def server(result_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(result_url) as redis:
        yield redis


async def announce(server: Redis, task_id: str, state: str) -> int:
    listeners: int = await server.publish(meta_key(task_id), json.dumps({"status": state}))
    return listeners


async def calls_of(server: Redis, command: str) -> int:
    stats = await server.info("commandstats")
    calls: int = stats.get(f"cmdstat_{command}", {}).get("calls", 0)
    return calls


async def test_thousand_waiters_cost_one_connection_and_few_commands(
    changes: StateChanges, server: Redis
) -> None:
    before = await calls_of(server, "subscribe")
    async with AsyncExitStack() as stack:
        watches = [changes.watch([f"task-{number}"]) for number in range(WAITERS)]
        events = await asyncio.gather(*map(stack.enter_async_context, watches))
        subscribed = [each for each in await server.client_list() if int(each["sub"]) >= WAITERS]
        assert len(subscribed) == 1
        assert await calls_of(server, "subscribe") - before < WAITERS / 10

        for number in range(WAITERS):
            assert await announce(server, f"task-{number}", SUCCESS_STATE) == 1
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(event.wait() for event in events))


async def test_who_waits_for_the_end_is_not_woken_by_the_beginning(
    changes: StateChanges, server: Redis
) -> None:
    async with changes.watch(["task"]) as changed, changes.watch(["task"], until_end=True) as ended:
        await announce(server, "task", STARTED_STATE)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await changed.wait()
        assert not ended.is_set()
        await announce(server, "task", FAILURE_STATE)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ended.wait()


async def test_who_leaves_and_comes_back_at_once_is_still_woken(
    changes: StateChanges, server: Redis
) -> None:
    for _ in range(100):
        async with changes.watch(["task"]):
            pass
        async with changes.watch(["task"]) as changed:
            await announce(server, "task", SUCCESS_STATE)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await changed.wait()


async def test_change_while_the_connection_was_lost_wakes_who_waits(
    result_url: str, server: Redis
) -> None:
    with Proxy(result_url) as proxy:
        async with listening(proxy.url) as changes, changes.watch(["task"]) as changed:
            proxy.cut()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await changed.wait()  # it may have missed something already
            changed.clear()
            assert await announce(server, "task", SUCCESS_STATE) == 0  # nobody listens
            proxy.restore()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await changed.wait()


async def test_waiters_leave_no_subscription_behind(changes: StateChanges, server: Redis) -> None:
    async with changes.watch(["task-1", "task-2"]):
        assert await announce(server, "task-1", STARTED_STATE) == 1
    async with changes.watch(["task-3"]):  # its subscription comes after what was left
        assert await announce(server, "task-1", STARTED_STATE) == 0


async def subscribed_again(changes: StateChanges) -> None:
    """Return as soon as somebody can wait."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(ResultsUnavailable):
                async with changes.watch(["again"]):
                    return


async def come_and_go(changes: StateChanges, number: int) -> None:
    while True:
        with suppress(ResultsUnavailable):
            async with changes.watch([f"task-{number}", f"task-{number + 1}"]):
                await asyncio.sleep(0.001 * number)


async def test_connection_that_is_killed_while_waiters_come_and_go_is_replaced(
    changes: StateChanges, server: Redis
) -> None:
    coming = [asyncio.create_task(come_and_go(changes, number)) for number in range(10)]
    for _ in range(20):
        await subscribed_again(changes)
        await server.client_kill_filter(_type="pubsub")
    for task in coming:
        task.cancel()
    await asyncio.gather(*coming, return_exceptions=True)
    async with changes.watch(["task"]) as changed:
        await announce(server, "task", SUCCESS_STATE)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await changed.wait()


@pytest.mark.parametrize("is_used", [True, False])
async def test_half_open_connection_is_replaced(
    result_url: str, server: Redis, monkeypatch: pytest.MonkeyPatch, *, is_used: bool
) -> None:
    """Nobody closes it, but it leaves a subscription, or else a ping, without an answer."""
    monkeypatch.setattr(state_changes, "_PING_SECONDS", 30 if is_used else 0.1)
    with Proxy(result_url) as proxy:
        async with listening(proxy.url) as changes, changes.watch(["task"]) as changed:
            proxy.freeze()
            if is_used:
                await subscribed_again(changes)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await changed.wait()  # it may have missed something
            async with changes.watch(["other"]):  # all is subscribed to by then
                changed.clear()
                await announce(server, "task", SUCCESS_STATE)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await changed.wait()
