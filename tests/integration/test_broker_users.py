"""What each service may do at the broker, and what it may not: deploy/rabbitmq/definitions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from amqp.exceptions import AccessRefused
from kombu import Connection, Queue

from contracts.topology import (
    DEAD_LETTER_NOTICES,
    DEAD_LETTERS,
    LANE_QUEUES,
    MissingTopologyError,
    declare_topology,
    lane_queue,
)
from integration.broker import Broker
from integration.jobs import Jobs
from integration.place import Place
from integration.services import run_api, run_lane_worker
from integration.stack_broker import StackBroker, run_stack_broker
from local_stack.private_servers import SERVICE_USERS
from servers import Redis, eventually
from twinlane_sdk.lanes import Lane
from twinlane_tasks.http import FETCH_URL

OWN = {
    "api": (DEAD_LETTERS, DEAD_LETTER_NOTICES),
    "worker-io": (lane_queue(Lane.IO),),
    "worker-cpu": (lane_queue(Lane.CPU),),
    "beat": (),
}
"""The queues that each service declares."""

Operation = Callable[[Any], object]


def consume(queue: str) -> Operation:
    return lambda channel: channel.basic_consume(queue)


def get(queue: str) -> Operation:
    return lambda channel: channel.basic_get(queue)


def purge(queue: str) -> Operation:
    return lambda channel: channel.queue_purge(queue)


def delete(queue: str) -> Operation:
    return lambda channel: channel.queue_delete(queue)


def declare(queue: str) -> Operation:
    return lambda channel: channel.queue_declare(queue)


def bind(queue: str, exchange: str, key: str) -> Operation:
    return lambda channel: channel.queue_bind(queue, exchange, key)


def publish(exchange: str, key: str) -> Operation:
    def operation(channel: Any) -> None:  # noqa: ANN401 - kombu's types know too little of it
        message = channel.prepare_message("[]", content_encoding="utf-8")
        channel.basic_publish_confirm(message, exchange=exchange, routing_key=key)

    return operation


def reply_queue_bound(exchange: str, key: str) -> Operation:
    """Try to have copies of what an exchange carries, in a queue that one may make."""
    name = "00000000-0000-4000-8000-000000000000.reply.celery.pidbox"

    def operation(channel: Any) -> None:  # noqa: ANN401 - as above
        channel.queue_declare(name, exclusive=True)
        channel.queue_bind(name, exchange, key)

    return operation


FORBIDDEN = {
    "api": {
        "consumes the io lane": consume("jobs.io"),
        "consumes the cpu lane": consume("jobs.cpu"),
        "gets from a lane": get("jobs.cpu"),
        "empties a lane": purge("jobs.io"),
        "deletes a lane": delete("jobs.io"),
        "consumes what is delayed": consume("celery_delayed_27"),
        "copies a lane": reply_queue_bound("jobs", "#"),
        "listens to events": declare("celeryev.00000000-0000-4000-8000-000000000000"),
        "publishes past the exchange": publish("", "jobs.io"),
        "makes a queue": declare("mine"),
    },
    "worker-io": {
        "consumes the cpu lane": consume("jobs.cpu"),
        "empties the cpu lane": purge("jobs.cpu"),
        "deletes the cpu lane": delete("jobs.cpu"),
        "copies the cpu lane": bind("jobs.io", "jobs", "jobs.cpu"),
        "copies everything": bind("jobs.io", "jobs", "#"),
        "copies what is delayed": bind("jobs.io", "celery_delayed_delivery", "#"),
        "consumes the dead letters": consume("jobs.dead"),
        "commands the workers": publish("celery.pidbox", ""),
        "makes a queue": declare("mine"),
    },
    "worker-cpu": {
        "consumes the io lane": consume("jobs.io"),
        "deletes the io lane": delete("jobs.io"),
        "copies the io lane": bind("jobs.cpu", "jobs", "jobs.io"),
        "consumes the dead letters": consume("jobs.dead.notices"),
        "commands the workers": publish("celery.pidbox", ""),
    },
    "beat": {
        "consumes a lane": consume("jobs.io"),
        "makes a queue": declare("mine"),
        "commands the workers": publish("celery.pidbox", ""),
    },
    "flower": {
        "consumes a lane": consume("jobs.cpu"),
        "submits a job": publish("jobs", "jobs.io"),
        "consumes the dead letters": consume("jobs.dead"),
        "forges events": publish("celeryev", "task.succeeded"),
        "copies a lane": reply_queue_bound("jobs", "#"),
    },
}


@pytest.fixture(scope="module")
def stack_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackBroker]:
    with run_stack_broker(tmp_path_factory.mktemp("stack-broker")) as broker:
        yield broker


@pytest.fixture
def place(stack_broker: StackBroker, redis: Redis, tmp_path: Path) -> Place:
    """Where services meet, as the administrator; see `of`."""
    return Place(
        broker_url=stack_broker.broker_url(),
        result_url=redis.database_url(),
        management_url=stack_broker.management_url(),
        folder=tmp_path,
    )


@pytest.fixture
def of(place: Place, stack_broker: StackBroker) -> Callable[[str], Place]:
    """Return the place as a service's user has it."""

    def place_of(user: str) -> Place:
        return replace(
            place,
            broker_url=stack_broker.broker_url(user),
            management_url=stack_broker.management_url(user),
        )

    return place_of


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    with Connection(url, transport_options={"confirm_publish": True}) as connection:
        yield connection


@pytest.mark.parametrize(
    ("user", "operation"),
    [
        pytest.param(user, operation, id=f"{user} {what}")
        for user, operations in FORBIDDEN.items()
        for what, operation in operations.items()
    ],
)
def test_service_is_refused_what_is_not_its_work(
    stack_broker: StackBroker, user: str, operation: Operation
) -> None:
    with (
        connected(stack_broker.broker_url(user)) as connection,
        pytest.raises(AccessRefused),
        connection.channel() as channel,
    ):
        operation(channel)


@pytest.mark.parametrize("password", ["guest", "twinlane"])
def test_guest_can_not_log_in(stack_broker: StackBroker, password: str) -> None:
    url = f"amqp://guest:{password}@{stack_broker.host}:{stack_broker.port}//"
    with pytest.raises(AccessRefused), Connection(url) as connection:
        connection.connect()
    management = f"http://{stack_broker.host}:{stack_broker.management_port}/api/whoami"
    assert httpx2.get(management, auth=("guest", password)).status_code == 401


@pytest.mark.parametrize("user", SERVICE_USERS)
def test_services_administer_nothing(stack_broker: StackBroker, user: str) -> None:
    with httpx2.Client(base_url=f"{stack_broker.management_url(user)}/api") as api:
        assert api.get("/users").status_code == 401
        assert api.put("/vhosts/mine", json={}).status_code == 401
        assert api.delete("/queues/%2F/jobs.io").status_code in {401, 403}


def test_lanes_are_there_and_limited_before_any_service_has_run(stack_broker: StackBroker) -> None:
    with httpx2.Client(base_url=f"{stack_broker.management_url()}/api", timeout=30) as api:
        answer = api.get("/queues/%2F?disable_stats=true&enable_queue_totals=true")
    queues = {queue["name"]: queue for queue in answer.raise_for_status().json()}
    assert {"jobs.io", "jobs.cpu", "jobs.dead", "jobs.dead.notices"} <= queues.keys()
    limits = {name: queue.get("policy") for name, queue in queues.items()}
    assert (limits.pop("jobs.io"), limits.pop("jobs.cpu")) == ("lanes", "lanes")
    assert (limits.pop("jobs.dead"), limits.pop("jobs.dead.notices")) == (None, None)
    assert set(limits.values()) == {"delays"}


@pytest.mark.parametrize("user", OWN)
def test_service_finds_everything_declared_and_may_declare_its_own(
    stack_broker: StackBroker, user: str
) -> None:
    with connected(stack_broker.broker_url(user)) as connection:
        declare_topology(connection, OWN[user])
        declare_topology(connection)  # what it may not declare is there all the same


@pytest.mark.parametrize(
    ("owner", "queue"),
    [(owner, queue) for owner, queues in OWN.items() for queue in queues],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_deleted_queue_is_brought_back_by_its_owner(
    stack_broker: StackBroker, place: Place, owner: str, queue: Queue
) -> None:
    broker = Broker(place)
    broker.delete_queue(queue.name)
    with connected(stack_broker.broker_url(owner)) as connection:
        declare_topology(connection, OWN[owner])
    if queue in LANE_QUEUES:
        broker.publish(queue.name)
        assert eventually(lambda: broker.take(queue.name) is not None)
    else:
        assert broker.ready(queue.name) == 0


@pytest.mark.parametrize("lane", Lane)
def test_api_misses_a_lane_that_it_may_not_declare(
    stack_broker: StackBroker, place: Place, lane: Lane
) -> None:
    broker = Broker(place)
    broker.delete_queue(lane.queue_name)
    with connected(stack_broker.broker_url("api")) as connection:
        with pytest.raises(MissingTopologyError) as raised:
            declare_topology(connection)
        broker.declare()
        declare_topology(connection)
    assert str(raised.value).startswith(f"the queue '{lane.queue_name}' is missing")
    assert "\n" not in str(raised.value)


def test_jobs_of_both_lanes_run_with_a_user_for_each_service(
    of: Callable[[str], Place], place: Place
) -> None:
    with (
        run_lane_worker(of("worker-io"), Lane.IO),
        run_lane_worker(of("worker-cpu"), Lane.CPU),
        run_api(of("api"), fetch_allowed_hosts="*.test") as api,
    ):
        retried = ended(api, "io.fetch_url", url="http://fails-before.test/2")
        assert retried["state"] == "succeeded"
        assert len(retried["attempts"]) == 2
        assert ended(api, "cpu.sum_numbers", a=1, b=2)["state"] == "succeeded"
        report = ended(api, "io.send_report", email="ana@empresa.com", month="2025-01")
        assert report["state"] == "succeeded"
        delayed = ended(api, "cpu.sum_numbers", delay=1, a=1, b=2)
        assert delayed["state"] == "succeeded"
        dead = Broker(place).ready("jobs.dead")
        assert ended(api, "io.fetch_url", url="http://rejects.test/")["state"] == "failed"
        assert eventually(lambda: Broker(place).ready("jobs.dead") == dead + 1)
        stats = api.get("/queue/stats").raise_for_status().json()
        assert stats["total_workers"] == 2
        assert stats["queues"]["jobs.io"]["consumers"] == 1


def test_api_shows_and_requeues_the_dead_with_its_own_user(of: Callable[[str], Place]) -> None:
    with run_api(of("api"), fetch_allowed_hosts="*.test") as api:
        with run_lane_worker(of("worker-io"), Lane.IO):
            job = ended(api, "io.fetch_url", url="http://rejects.test/")

        def letters() -> list[str]:
            found = api.get("/v1/dead-letters").raise_for_status().json()["dead_letters"]
            return [letter["id"] for letter in found if letter["job"] == job["id"]]

        assert eventually(lambda: len(letters()) == 1)
        answer = api.post("/v1/dead-letters/requeue", json={"ids": letters()})
        assert len(answer.raise_for_status().json()["requeued"]) == 1
        assert letters() == []


def ended(api: httpx2.Client, task: str, delay: int | None = None, **args: object) -> Any:  # noqa: ANN401 - JSON
    """Run a job to its end and return it."""
    answer = api.post(
        f"/v1/tasks/{task}/jobs",
        json=args,
        headers={"Prefer": "wait=30"},
        params={} if delay is None else {"delay": delay},
    )
    job = answer.raise_for_status().json()
    while job["state"] not in {"succeeded", "failed"}:
        job = api.get(f"/v1/jobs/{job['id']}", params={"wait": 20}).raise_for_status().json()
    return job


def test_beat_submits_with_its_own_user(of: Callable[[str], Place], place: Place) -> None:
    jobs = Jobs(of("beat"))
    assert jobs.submit(FETCH_URL, url="http://any.test/")
    assert eventually(lambda: Broker(place).take("jobs.io") is not None)
