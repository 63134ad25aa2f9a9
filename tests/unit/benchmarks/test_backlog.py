import json
from collections.abc import Sequence

import pytest
from celery import Celery
from redis import Redis

from benchmarks.backlog import (
    Ended,
    StalledError,
    Watch,
    celery_message,
    copies,
    measure_pace,
    new_ids,
    succeeded,
)

NOWHERE = Redis(port=1)
"""Never connected to: what has ended is told by a function."""


class Metas(Redis):
    """What `succeeded` asks of Redis."""

    def __init__(self, **metas: object) -> None:
        self._metas = {key: json.dumps(meta).encode() for key, meta in metas.items()}

    def mget(self, keys: object, *_: object) -> list[bytes | str | None]:
        assert isinstance(keys, list)
        return [self._metas.get(key) for key in keys]


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def some_at_a_time(size: int) -> Ended:
    """Find `size` more ended at every look, the odd ones among those that are asked for first."""

    def ended(_: Redis, keys: Sequence[str]) -> list[bool]:
        order = sorted(keys, key=lambda key: (int(key) % 2 == 0, int(key)))
        return [key in order[:size] for key in keys]

    return ended


def below(limit: int) -> Ended:
    return lambda _, keys: [int(key) < limit for key in keys]


def test_copy_has_its_id_wherever_the_message_had_its_own() -> None:
    message = celery_message(Celery(set_as_current=False), "io.some_task", {"a": 1})
    own = message.headers["id"]

    (copy,) = copies(message, ["other"])

    assert copy.correlation_id == "other"
    had = {name for name, value in message.headers.items() if value == own}
    has = {name for name, value in copy.headers.items() if value == "other"}
    assert has == had >= {"id", "root_id"}
    assert {k: v for k, v in copy.headers.items() if k not in has} == {
        k: v for k, v in message.headers.items() if k not in had
    }
    assert copy.body == message.body


def test_ids_are_all_different() -> None:
    assert len(set(new_ids(100))) == 100


def test_every_job_is_counted_once_whatever_the_order_of_the_ends() -> None:
    watch = Watch(NOWHERE, numbers(1_000), some_at_a_time(90))

    watch.wait_for(1_000)

    assert watch.count == 1_000


def test_catching_up_counts_what_has_ended_and_waits_for_nothing() -> None:
    watch = Watch(NOWHERE, numbers(1_000), below(700))

    watch.catch_up()

    assert watch.count == 700


def test_work_that_stands_still_is_an_error_that_says_how_far_it_came() -> None:
    watch = Watch(NOWHERE, numbers(10), below(4))

    with pytest.raises(StalledError, match="4 of 10"):
        watch.wait_for(10, patience_seconds=0)


def test_pace_counts_the_jobs_after_those_that_had_ended_and_the_warm_up() -> None:
    looked: list[int] = []

    def ended(_: Redis, keys: Sequence[str]) -> list[bool]:
        looked.append(int(keys[0]))
        limit = 300 if len(looked) <= 2 else 300 + 100 * len(looked)
        return [int(key) < limit for key in keys]

    watch = Watch(NOWHERE, numbers(5_000), ended)

    pace = measure_pace(watch, [], warm_up=100, count=1_000)

    assert watch.count >= 300 + 100 + 1_000
    assert pace.jobs_per_second > 0
    assert pace.cpu_ms_per_job == 0
    assert 0 <= pace.busy_share <= 1


def test_job_that_only_runs_has_not_succeeded() -> None:
    metas = Metas(done={"status": "SUCCESS"}, running={"status": "STARTED"})

    assert succeeded(metas, ["done", "running", "unknown"]) == [True, False, False]


def test_job_that_failed_is_an_error_and_not_a_fast_job() -> None:
    metas = Metas(bad={"status": "FAILURE", "result": "no"})

    with pytest.raises(StalledError, match="bad ended as FAILURE"):
        succeeded(metas, ["bad"])
