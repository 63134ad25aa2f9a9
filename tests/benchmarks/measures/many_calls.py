"""Goal 7: a thousand 3-second calls on one worker of the io lane."""

import time
from typing import Final

import httpx2
from celery import Celery
from redis import Redis

from benchmarks.backlog import Watch, celery_message, copies, new_ids, publish, succeeded
from benchmarks.bench import Bench, Servers
from benchmarks.measure import Bars, Measure, Outcome, Row, Table, at_most
from benchmarks.ours import our_api, our_workers
from benchmarks.peer_workers import CELERY_QUEUE, celery_command, peer_worker
from benchmarks.rounds import in_turn
from benchmarks.samples import Sample
from benchmarks.systems import CELERY
from benchmarks.upstream import slow_upstream
from contracts.keys import meta_key
from twinlane_sdk.lanes import Lane

_CALLS: Final = 1_000
_QUICK_CALLS: Final = 200
_DELAY_SECONDS: Final = 3
_GOAL_SECONDS: Final = 4.5
_TURNS: Final = 3
"""How often each slot of Celery's defaults has work, before its time is scaled up."""
_AT_LEAST_ONCE: Final = "quorum queue, late acknowledgement"


def run(bench: Bench) -> Outcome:
    calls = _QUICK_CALLS if bench.quick else _CALLS
    few = _TURNS * bench.cores
    with bench.servers() as servers, slow_upstream(servers.folder) as upstream:
        url = f"{upstream}/delay/{_DELAY_SECONDS}"
        sides = {
            "ours": lambda: _ours(servers, url, calls),
            "threads": lambda: _celery(servers, url, calls, celery_command("threads", calls)),
        }
        taken = in_turn(sides, bench.rounds, bench.say)
        defaults = {
            pool: _celery(servers, url, few, celery_command(pool)) * calls / few
            for pool in ("prefork", "threads")
        }
    ours, threads = (Sample(tuple(taken[side]), "s") for side in sides)
    prefork_default, threads_default = (Sample((s,), "s") for s in defaults.values())
    return Outcome(
        verdicts=[at_most(_GOAL_SECONDS, 7, f"at most {_GOAL_SECONDS} s", ours)],
        tables=[
            Table(
                [f"{calls:,} calls of {_DELAY_SECONDS} s each", "Time", "Durability"],
                [
                    Row("Twinlane: one worker-io", [ours, f"{_AT_LEAST_ONCE}, records"], ours=True),
                    Row(f"Celery: threads, told to have {calls:,}", [threads, _AT_LEAST_ONCE]),
                    Row("Celery: threads as by default", [threads_default, _AT_LEAST_ONCE]),
                    Row("Celery: prefork as by default", [prefork_default, _AT_LEAST_ONCE]),
                    Row("the limit: all at once", [Sample((_DELAY_SECONDS,), "s"), "—"]),
                ],
            )
        ],
        plots=[
            Bars(
                "many-calls",
                f"{calls:,} calls of {_DELAY_SECONDS} s on one worker: less is better",
                {
                    "Twinlane": ours,
                    f"Celery, {calls:,} threads": threads,
                    "Celery, threads": threads_default,
                    "Celery, prefork": prefork_default,
                },
                goal=_GOAL_SECONDS,
                log=True,
            )
        ],
        notes=[
            (
                "Twinlane's time begins with the `POST` of the batch and ends when the last result "
                "is in Redis, so it has the API's work in it. Celery's jobs are put into the queue "
                "directly, faster than its client would, and its task calls with one httpx2 client "
                "for all threads."
            ),
            (
                "With its defaults Celery runs as many jobs at once as there are cores: "
                f"{few} calls were made and their time scaled up to {calls:,}."
            ),
            (
                "Called is a small server on asyncio, the same for all, which answers as httpbin "
                "does; httpbin itself would take much of the machine to hold so many calls."
            ),
        ],
    )


def _ours(servers: Servers, url: str, calls: int) -> float:
    with (
        servers.place() as place,
        our_api(place, fetch_allowed_hosts="127.0.0.1") as api,
        our_workers(place, Lane.IO, fetch_allowed_hosts="127.0.0.1"),
        Redis.from_url(place.result_url) as redis,
        httpx2.Client(base_url=api.url, timeout=60) as client,
    ):
        items = [{"task": "io.fetch_url", "args": {"url": url}}] * calls
        started = time.monotonic()
        accepted = client.post("/v1/batches", json=items).raise_for_status().json()
        keys = [meta_key(item["id"]) for item in accepted["items"]]
        return Watch(redis, keys, succeeded).wait_for(calls) - started


def _celery(servers: Servers, url: str, calls: int, command: list[str]) -> float:
    message = celery_message(Celery(set_as_current=False), "plain.fetch_url", {"url": url})
    ids = new_ids(calls)
    with (
        servers.place() as place,
        peer_worker(CELERY, place, command),
        Redis.from_url(place.result_url) as redis,
    ):
        started = time.monotonic()
        publish(place.broker_url, CELERY_QUEUE, CELERY_QUEUE, copies(message, ids))
        return Watch(redis, map(meta_key, ids), succeeded).wait_for(calls) - started


MEASURE: Final = Measure(
    numbers=[7],
    title="A thousand 3-second calls on one worker",
    question="How long does one worker-io service take for a thousand calls of three seconds each, "
    "submitted as one batch? No worker can be faster than three seconds.",
    run=run,
)
