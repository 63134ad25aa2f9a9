"""Plain Celery: the settings of Twinlane's workers, and nothing of Twinlane's around a task.

Its events are not confirmed by the broker, as Twinlane's are not: each would hold up the worker's
main loop. `python -m … N` publishes N sums.
"""

import functools
import hashlib
import os
import socket
import sys
import time
from typing import Any

import httpx2
from celery import Celery
from kombu import Exchange, Queue

QUEUE = "plain"
_DEAD = "plain.dead"

app = Celery("plain")
app.conf.update(
    broker_url=os.environ["BROKER_URL"],
    broker_transport_options={"socket_settings": {socket.TCP_USER_TIMEOUT: 10_000}},
    broker_connection_retry_on_startup=True,
    broker_heartbeat=15,
    task_queues=[
        Queue(
            QUEUE,
            Exchange(QUEUE, type="topic"),
            routing_key=QUEUE,
            queue_arguments={
                "x-queue-type": "quorum",
                "x-dead-letter-exchange": _DEAD,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
                "x-delivery-limit": 5,
            },
        ),
    ],
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_acks_on_failure_or_timeout=False,
    task_track_started=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    result_backend=os.environ["RESULT_URL"],
    result_backend_always_retry=True,
    result_backend_thread_safe=True,
    result_expires=7 * 24 * 3600,
    redis_max_connections=1_100,
    task_soft_time_limit=300,
    task_time_limit=330,
)


@functools.cache
def _client() -> httpx2.Client:
    return httpx2.Client(limits=httpx2.Limits(max_connections=None), timeout=20)


@app.task(name="plain.sum_numbers")
def sum_numbers(a: int, b: int) -> dict[str, int]:
    """Add two integers."""
    return {"total": a + b}


@app.task(name="plain.fetch_url")
def fetch_url(url: str) -> dict[str, Any]:
    """GET an address, with one client for all threads of the process."""
    answer = _client().get(url)
    return {"url": url, "status": answer.status_code, "size_bytes": len(answer.content)}


@app.task(name="plain.note_wait")
def note_wait(published_at: float) -> dict[str, float]:
    """Say how long the message has waited."""
    return {"waited_seconds": time.time() - published_at}


@app.task(name="plain.burn")
def burn(cpu_seconds: float) -> dict[str, float]:
    """Take a processor's time."""
    digest = b""
    until = time.thread_time() + cpu_seconds
    while time.thread_time() < until:
        digest = hashlib.sha256(digest * 1_000).digest()
    return {"cpu_seconds": cpu_seconds}


def main(count: int) -> None:
    """Publish sums, and print under which key each result will be."""
    for _ in range(count):
        published = sum_numbers.delay(2, 3)
        print(f"celery-task-meta-{published.id}")  # noqa: T201 - its output


if __name__ == "__main__":
    main(int(sys.argv[1]))
