"""Many jobs in a queue before a worker is there, and how fast it gets through them.

What a worker can do shows only while it never waits for work. The messages are Celery's own, made
once and copied with another id, and go to the broker directly: publishing is measured elsewhere.
"""

import json
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import amqp
from celery import Celery
from kombu import Connection
from kombu.serialization import dumps
from redis import Redis

from benchmarks.processes import cpu_seconds
from contracts.celery_app import create_celery
from contracts.keys import meta_key
from contracts.messages import PERSISTENT, JobMessage, build_message
from contracts.records import new_record
from contracts.states import FAILURE_STATE, REVOKED_STATE, SUCCESS_STATE
from contracts.topology import JOBS, declare_topology
from integration.place import Place
from twinlane_sdk.task_spec import Args, TaskSpec
from twinlane_tasks.catalogue import bundled_tasks

A = TypeVar("A", bound=Args)

_UNCONFIRMED: Final = 5_000
_CONFIRM_SECONDS: Final = 60.0
_LIFETIME_SECONDS: Final = 3600
_LOOK_SECONDS: Final = 0.02
_LOOK_AT_ONCE: Final = 256
_BAD_ENDS: Final = frozenset({FAILURE_STATE, REVOKED_STATE})


class StalledError(Exception):
    """Work did not get on; says how far it came."""


def new_ids(count: int) -> list[str]:
    """Return ids of jobs that nobody has seen."""
    return [str(uuid.uuid4()) for _ in range(count)]


def celery_message(app: Celery, task: str, args: dict[str, Any]) -> JobMessage:
    """Return a message of Celery's protocol 2, as `send_task` would publish it."""
    headers, properties, body, _ = app.amqp.as_task_v2(str(uuid.uuid4()), task, kwargs=args)
    content_type, content_encoding, payload = dumps(body, "json")
    return JobMessage(
        headers=headers,
        body=payload.encode(),
        content_type=content_type,
        content_encoding=content_encoding,
        correlation_id=properties["correlation_id"],
    )


def copies(message: JobMessage, ids: Iterable[str]) -> Iterator[JobMessage]:
    """Yield a message once per id, that id in every place where the message has its own."""
    own = message.correlation_id
    places = [name for name, value in message.headers.items() if value == own]
    for job_id in ids:
        headers = message.headers | dict.fromkeys(places, job_id)
        yield replace(message, headers=headers, correlation_id=job_id)


class Publisher:
    """A connection that publishes persistent messages and waits for their confirms together."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        channel: Any = connection.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        self._publish = channel.basic_publish
        self._last = 0
        self._open: set[int] = set()

    def publish(self, exchange: str, key: str, message: JobMessage) -> None:
        """Send a message, and do not wait."""
        self._last += 1
        self._open.add(self._last)
        content = amqp.Message(
            message.body,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            correlation_id=message.correlation_id,
            delivery_mode=PERSISTENT,
            application_headers=message.headers,
        )
        self._publish(content, exchange, key)

    def settle(self) -> None:
        """Return once everything is confirmed.

        Raises:
            StalledError: the broker refuses a message, or falls silent.

        """
        while self._open:
            try:
                self._connection.drain_events(timeout=_CONFIRM_SECONDS)
            except TimeoutError as exc:
                raise StalledError(f"{len(self._open)} messages were not confirmed") from exc

    def _on_ack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - py-amqp calls it so
        self._open -= {each for each in self._open if each <= tag} if multiple else {tag}

    def _on_nack(self, tag: int, multiple: bool) -> None:  # noqa: ARG002, FBT001 - the same
        raise StalledError(f"the broker refused message {tag}: is the queue full?")


def publish(broker_url: str, exchange: str, key: str, messages: Iterable[JobMessage]) -> None:
    """Publish messages and return once the broker has confirmed every one.

    Raises:
        StalledError: it refuses one, or falls silent.

    """
    with Connection(broker_url) as connection:
        publisher = Publisher(connection)
        rest = iter(messages)
        while chunk := list(islice(rest, _UNCONFIRMED)):
            for message in chunk:
                publisher.publish(exchange, key, message)
            publisher.settle()


def publish_jobs(place: Place, spec: TaskSpec[A, Any], args: A, count: int) -> list[str]:
    """Queue jobs of ours, without their records; return the keys of their results to be."""
    catalogue = bundled_tasks()
    app = create_celery(place.settings(), catalogue)
    with app.connection_for_write() as connection:
        declare_topology(connection)
    record = new_record(spec, args, job_id=str(uuid.uuid4()), ttl_seconds=_LIFETIME_SECONDS)
    ids = new_ids(count)
    messages = copies(build_message(app, catalogue, record), ids)
    publish(place.broker_url, JOBS.name, spec.lane.queue_name, messages)
    return [meta_key(job_id) for job_id in ids]


Ended = Callable[[Redis, Sequence[str]], list[bool]]
"""Says for each of some keys of results whether its job has ended."""


def succeeded(redis: Redis, keys: Sequence[str]) -> list[bool]:
    """Look at Celery's results, where a job that only runs may have said so.

    Raises:
        StalledError: one has ended otherwise than by success.

    """
    metas = [json.loads(raw) if raw else {} for raw in redis.mget(keys)]
    for key, meta in zip(keys, metas, strict=True):
        if meta.get("status") in _BAD_ENDS:
            raise StalledError(f"{key} ended as {meta['status']}: {meta.get('result')}")
    return [meta.get("status") == SUCCESS_STATE for meta in metas]


def present(redis: Redis, keys: Sequence[str]) -> list[bool]:
    """Look at results that are there only when the job has ended."""
    pipeline = redis.pipeline(transaction=False)
    for key in keys:
        pipeline.exists(key)
    return [bool(there) for there in pipeline.execute()]


class Watch:
    """Counts the jobs that have ended, in about the order in which they were published."""

    def __init__(self, redis: Redis, keys: Iterable[str], ended: Ended) -> None:
        self._redis = redis
        self._pending = deque(keys)
        self._ended = ended
        self.count = 0

    def wait_for(self, count: int, patience_seconds: float = 60) -> float:
        """Return at which moment of time.monotonic() at least `count` jobs had ended.

        Raises:
            StalledError: none ends for a while.

        """
        last = time.monotonic()
        while self.count < count:
            found = self._look()
            now = time.monotonic()
            if found:
                last = now
            elif now - last > patience_seconds:
                raise StalledError(f"{self.count} of {count} jobs ended, and then no more")
            if found < _LOOK_AT_ONCE // 2:
                time.sleep(_LOOK_SECONDS)
        return time.monotonic()

    def catch_up(self) -> None:
        """Count what has ended by now."""
        while self._look() == _LOOK_AT_ONCE:
            pass

    def _look(self) -> int:
        keys = list(islice(self._pending, _LOOK_AT_ONCE))
        rest = [
            key
            for key, ended in zip(keys, self._ended(self._redis, keys), strict=True)
            if not ended
        ]
        for _ in keys:
            self._pending.popleft()
        self._pending.extendleft(reversed(rest))
        found = len(keys) - len(rest)
        self.count += found
        return found


@dataclass(frozen=True)
class Pace:
    """How fast a worker gets through its jobs, and what of the processors it takes for that."""

    jobs_per_second: float
    cpu_ms_per_job: float
    """Of the worker's own processes."""
    busy_share: float
    """Of all cores, whoever kept them busy: 1 is all of them, all the time."""


def measure_pace(watch: Watch, pids: Iterable[int], warm_up: int, count: int) -> Pace:
    """Measure over `count` jobs, after `warm_up` more than have ended by now."""
    pids = list(pids)
    watch.catch_up()
    begin = watch.wait_for(watch.count + warm_up)
    before, cpu, idle = watch.count, _cpu_of(pids), _idle_seconds()
    end = watch.wait_for(before + count)
    jobs, seconds = watch.count - before, end - begin
    idle_share = (_idle_seconds() - idle) / seconds / (os.cpu_count() or 1)
    return Pace(
        jobs_per_second=jobs / seconds,
        cpu_ms_per_job=(_cpu_of(pids) - cpu) * 1000 / jobs,
        busy_share=max(0.0, 1 - idle_share),  # the kernel counts in hundredths of a second
    )


def _cpu_of(pids: Iterable[int]) -> float:
    return sum(cpu_seconds(pid) for pid in pids)


def _idle_seconds() -> float:
    """Return how long all processors together had nothing to do since the machine started."""
    idle, waiting = Path("/proc/stat").read_text().split("\n", 1)[0].split()[4:6]
    return (int(idle) + int(waiting)) / os.sysconf("SC_CLK_TCK")
