"""Submission."""

# ruff: noqa: PLR0913, PLR0917 - fixtures are arguments

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import pytest

from chaos.backing import BreakableRabbitMQ, BreakableRedis
from chaos.client import Answer, Client, Livez, in_threads
from chaos.faults import alarm, fill, kill, partition, pause, read_only, refuse
from chaos.queues import LaneQueue
from chaos.reliability import Measured
from chaos.scene import add, ended, succeeded
from chaos.services import ApiService, cpu_worker
from integration.broker import Broker
from integration.place import Place
from integration.proxy import Proxy, Towards
from servers import eventually
from twinlane_sdk.lanes import Lane

PROMISED_SECONDS: Final = 2.0
SLACK_SECONDS: Final = 0.5
LIVEZ_SECONDS: Final = 0.05
LIVEZ_SLACK_SECONDS: Final = 0.1  # cores are shared with others, and with who measures

SUM: Final = "/v1/tasks/cpu.sum_numbers/jobs"


@dataclass(frozen=True)
class World:
    """What the faults of submission are done to."""

    rabbitmq: BreakableRabbitMQ
    redis: BreakableRedis
    broker: Broker
    to_rabbitmq: Proxy
    to_redis: Proxy


@dataclass(frozen=True)
class Outage:
    """A fault, the codes that it may be answered with, and whom /readyz must name."""

    fault: str
    cause: Callable[[World], AbstractContextManager[None]]
    codes: frozenset[str]
    named: str | None


@contextmanager
def deleted_queue(broker: Broker) -> Iterator[None]:
    broker.delete_queue(Lane.CPU.queue_name)
    yield


@contextmanager
def full_queue(queue: LaneQueue) -> Iterator[None]:
    with fill(queue):
        yield
        queue.purge()  # as workers would


BROKER: Final = frozenset({"broker-unavailable"})
SILENT: Final = frozenset({"broker-unavailable", "outcome-unknown"})
FULL: Final = frozenset({"lane-full"})
RESULTS: Final = frozenset({"results-unavailable"})

OUTAGES: Final = (
    Outage("RabbitMQ refuses connections", lambda w: refuse(w.to_rabbitmq), SILENT, "broker"),
    Outage(
        "packets to and from RabbitMQ vanish", lambda w: partition(w.to_rabbitmq), SILENT, "broker"
    ),
    Outage("RabbitMQ hangs (SIGSTOP)", lambda w: pause(w.rabbitmq), SILENT, "broker"),
    Outage("RabbitMQ's memory alarm", lambda w: alarm(w.rabbitmq), SILENT, "broker"),
    Outage("the lane's queue is deleted", lambda w: deleted_queue(w.broker), BROKER, None),
    Outage(
        "the lane's queue is full until workers drain it",
        lambda w: full_queue(LaneQueue(w.broker, Lane.CPU)),
        FULL,
        None,
    ),
    Outage(
        "the lane's queue is full until its limit is lifted",
        lambda w: fill(LaneQueue(w.broker, Lane.CPU)),
        FULL,
        None,
    ),
    Outage("Redis refuses connections", lambda w: refuse(w.to_redis), RESULTS, "results"),
    Outage("packets to and from Redis vanish", lambda w: partition(w.to_redis), RESULTS, "results"),
    Outage("Redis hangs (SIGSTOP)", lambda w: pause(w.redis), RESULTS, "results"),
    Outage("Redis is out of memory", lambda w: fill(w.redis), RESULTS, "results"),
    Outage("Redis is read-only", lambda w: read_only(w.redis), RESULTS, "results"),
)


@pytest.fixture
def world(
    rabbitmq: BreakableRabbitMQ,
    redis: BreakableRedis,
    broker: Broker,
    to_rabbitmq: Proxy,
    to_redis: Proxy,
) -> World:
    return World(rabbitmq, redis, broker, to_rabbitmq, to_redis)


@pytest.fixture
def api(place: Place, world: World) -> Iterator[ApiService]:
    """The API, with a network between it and its servers."""
    there = replace(place, broker_url=world.to_rabbitmq.url, result_url=world.to_redis.url)
    with ApiService(there) as api:
        yield api


@pytest.fixture
def client(api: ApiService) -> Iterator[Client]:
    with Client(api.url) as client:
        client.submit("cpu.sum_numbers", {"a": 1, "b": 2})  # all connections are open
        yield client


def post(client: Client) -> Answer:
    return client.request("POST", SUM, json={"a": 1, "b": 2})


def post_batch(client: Client) -> Answer:
    items = [{"task": "cpu.sum_numbers", "args": {"a": 1, "b": n}} for n in range(3)]
    key = {"Idempotency-Key": str(uuid.uuid4())}
    return client.request("POST", "/v1/batches", json=items, headers=key)


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.fault.replace(" ", "-"))
def test_submission_is_answered_in_time_whatever_is_down(
    outage: Outage, world: World, api: ApiService, client: Client, measured: Measured
) -> None:
    """Every POST is answered within 2 s, the event loop never stalls, /readyz names the cause,
    and jobs are accepted again without a restart.

    Fault: one of twelve.
    """
    measured.fault(f"{outage.fault}.")
    with Livez(api.url) as livez:
        with outage.cause(world):
            refused = _until_refused(client)
            answers = [refused, *(post(client) for _ in range(3)), post_batch(client)]
            answers += _posts_at_once(api.url, 10)
            ready = client.request("GET", "/readyz")
        healed = time.monotonic()
        assert eventually(lambda: post(client).status == 202, 30), post(client)
        measured.seconds("accepted again after", time.monotonic() - healed)
        assert eventually(lambda: client.request("GET", "/readyz").status == 200, 30)
    turned_away = [answer for answer in answers if answer.status != 202]
    slowest = max(answer.seconds for answer in answers)
    measured.seconds("slowest answer", slowest)
    measured.seconds("/livez p99", livez.p99())
    measured.note("answered", ", ".join(sorted({answer.code for answer in turned_away})))
    assert {answer.status for answer in turned_away} == {503}, turned_away
    assert {answer.code for answer in turned_away} <= outage.codes
    assert all("Retry-After" in answer.headers for answer in turned_away)
    assert not any("accepted" in answer.body for answer in turned_away)
    assert slowest < PROMISED_SECONDS + SLACK_SECONDS
    assert livez.p99() < LIVEZ_SECONDS + LIVEZ_SLACK_SECONDS
    assert livez.failures == 0
    if outage.named:
        assert ready.status == 503
        assert {name for name in ("broker", "results") if not ready.body[name]["ready"]} == {
            outage.named
        }


def _until_refused(client: Client) -> Answer:
    """A policy and an alarm take effect after a moment."""
    refused: list[Answer] = []

    def is_refused() -> bool:
        answer = post(client)
        refused.append(answer)
        return answer.status != 202

    assert eventually(is_refused, 30), "every job was accepted"
    return refused[-1]


def _posts_at_once(url: str, count: int) -> list[Answer]:
    answers: list[Answer] = []

    def ask(number: int) -> None:
        with Client(url) as client:
            answers.append(post_batch(client) if number % 2 else post(client))

    in_threads(count, ask)
    return answers


def test_hundred_posts_with_one_key_make_one_job(
    api: ApiService, broker: Broker, measured: Measured
) -> None:
    """The same submission, however often it is sent, is one job.

    Fault: 100 parallel POSTs with one Idempotency-Key.
    """
    key = str(uuid.uuid4())
    answers: list[Answer] = []

    def ask(_: int) -> None:
        with Client(api.url) as client:
            answers.append(
                client.persist("POST", SUM, json={"a": 1, "b": 2}, headers={"Idempotency-Key": key})
            )

    in_threads(100, ask)
    assert {answer.status for answer in answers} == {202}
    ids = {answer.body["id"] for answer in answers}
    measured.note("answers", len(answers))
    measured.note("jobs", len(ids))
    assert len(ids) == 1
    assert broker.ready(Lane.CPU.queue_name) == 1


def test_submission_repeated_after_the_death_of_the_api_is_the_same_job(
    place: Place, broker: Broker, measured: Measured
) -> None:
    """A client that repeats its request after a lost answer has its job once.

    Fault: kill -9 of the API while 20 clients submit, three times; each repeats with its key.
    """
    ids: list[str] = []
    setbacks: list[Answer] = []
    per_client = 30
    service = ApiService(place)

    def submit(number: int) -> None:
        with Client(service.url) as client:
            for count in range(per_client):
                args = {"a": number, "b": count}
                ids.append(client.submit("cpu.sum_numbers", args, key=f"{number}-{count}"))
                time.sleep(0.05)
            setbacks.extend(client.setbacks)

    with service:
        clients = threading.Thread(target=in_threads, args=[20, submit])
        clients.start()
        for wanted in (100, 250, 400):
            assert eventually(partial(_has, ids, wanted), 60)
            with kill(service):
                pass
        clients.join()
        assert len(set(ids)) == len(ids) == 20 * per_client
        measured.note("jobs", len(ids))
        measured.note("lost connections", sum(answer.status == 0 for answer in setbacks))
        with cpu_worker(place), Client(service.url) as client:
            totals = [succeeded(client, job_id)["result"]["total"] for job_id in ids]
            runs = [len(client.job(job_id)["attempts"]) for job_id in ids]
        assert sorted(totals) == sorted(n + c for n in range(20) for c in range(per_client))
        measured.note("jobs that ran twice", sum(count > 1 for count in runs))
    assert broker.ready(Lane.CPU.queue_name) == 0


def _has(ids: list[str], wanted: int) -> bool:
    return len(ids) >= wanted


@pytest.mark.parametrize(
    ("fault", "towards"),
    [
        ("The job reaches the broker and its confirm never comes back", Towards.CLIENT),
        ("Neither the job nor its confirm arrives, and the connection is lost", Towards.SERVER),
    ],
    ids=["arrived", "never-arrived"],
)
def test_job_of_unknown_outcome_ends(
    fault: str,
    towards: Towards,
    place: Place,
    broker: Broker,
    to_rabbitmq: Proxy,
    measured: Measured,
) -> None:
    """A job whose confirm was lost becomes true or failed later, never a silent nothing.

    Fault: one of two.
    """
    measured.fault(f"{fault}.")
    with (
        ApiService(replace(place, broker_url=to_rabbitmq.url)) as api,
        cpu_worker(place),
        Client(api.url) as client,
    ):
        succeeded(client, add(client, 1, 2))
        to_rabbitmq.pause(towards)
        answer = post(client)
        assert (answer.status, answer.code) == (503, "outcome-unknown"), answer
        measured.seconds("answered in", answer.seconds)
        job_id = answer.body["job_id"]
        to_rabbitmq.cut()
        to_rabbitmq.resume()
        to_rabbitmq.restore()
        healed = time.monotonic()
        job = ended(client, job_id)
        measured.seconds("ended after", time.monotonic() - healed)
        measured.note("as", job["state"])
        assert job["state"] in {"succeeded", "failed"}
        assert len(job["attempts"]) <= 1
    assert broker.ready(Lane.CPU.queue_name) == 0


def test_api_notices_a_connection_that_died_silently(
    place: Place, to_rabbitmq: Proxy, to_redis: Proxy, broker: Broker, measured: Measured
) -> None:
    """An API whose connections are half-open accepts jobs again by itself.

    Fault: a TCP proxy that swallows all packets of its connections to RabbitMQ and Redis, and
    closes none.
    """
    there = replace(place, broker_url=to_rabbitmq.url, result_url=to_redis.url)
    with ApiService(there) as api, Client(api.url) as client:
        client.submit("cpu.sum_numbers", {"a": 1, "b": 2})
        to_rabbitmq.freeze()
        to_redis.freeze()
        began = time.monotonic()
        answers: list[Answer] = []

        def is_accepted() -> bool:
            answers.append(post(client))
            return answers[-1].status == 202

        assert eventually(is_accepted, 120), answers[-1]
        measured.seconds("accepted again after", time.monotonic() - began)
        measured.seconds("slowest answer", max(answer.seconds for answer in answers))
        assert max(a.seconds for a in answers) < PROMISED_SECONDS + SLACK_SECONDS
    assert broker.ready(Lane.CPU.queue_name) >= 2
