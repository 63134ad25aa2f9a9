"""What jobs travel through, as RabbitMQ knows it.

deploy/rabbitmq/definitions/1-topology.json, which a broker imports when it starts, is a record of
what declare_topology declares. After a change there, write it anew and read the diff:

    TWINLANE_RECORD=1 pytest tests/integration/test_topology.py
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from amqp.exceptions import PreconditionFailed
from kombu import Message

from contracts.topology import DELIVERY_LIMIT
from integration.broker import Broker, headers_of
from servers import eventually
from twinlane_sdk.lanes import Lane

RECORDED: Final = Path(__file__).parents[2] / "deploy/rabbitmq/definitions/1-topology.json"
DEAD_QUEUES = ["jobs.dead", "jobs.dead.notices"]
READINGS = 30
"""More than RabbitMQ's default delivery limit of 20."""


@pytest.fixture
def declared(broker: Broker) -> Broker:
    broker.declare()
    return broker


def arrived(broker: Broker, queue: str) -> Message:
    """Wait for a message and take it away."""
    assert eventually(lambda: broker.ready(queue) > 0)
    message = broker.take(queue)
    assert message is not None
    return message


def die_with(broker: Broker, queue: str) -> bool:
    """Take a message as a worker that dies with it; return whether there was one."""
    with broker.channel() as channel:
        return channel.basic_get(queue) is not None


def test_definitions_that_the_broker_starts_with_are_what_is_declared(declared: Broker) -> None:
    present = _as_file(declared.definitions())
    if os.environ.get("TWINLANE_RECORD"):
        RECORDED.write_text(present)
    assert present == RECORDED.read_text(), __doc__


def _as_file(definitions: dict[str, Any]) -> str:
    """Return definitions of a virtual host as those of the default one, in a readable order."""
    vhost = {"vhost": "/"}
    sections = {"vhosts": [{"name": "/"}]} | {
        kind: sorted(
            (_known(each) | vhost for each in definitions[kind]),
            key=lambda each: (
                [str(each.get(name, "")) for name in ("source", "destination", "name")]
                + [json.dumps(each, sort_keys=True)]
            ),
        )
        for kind in ("exchanges", "queues", "bindings")
    }
    lines = (
        f"  {json.dumps(kind)}: [\n    "
        + ",\n    ".join(json.dumps(each, sort_keys=True) for each in entries)
        + "\n  ]"
        for kind, entries in sections.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _known(entry: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only some versions of RabbitMQ tell."""
    sometimes = {"vhost", "internal"} | (
        {"type"} if "x-queue-type" in entry["arguments"] else set()
    )
    return {name: value for name, value in entry.items() if name not in sometimes}


def test_declaring_twice_is_harmless(declared: Broker) -> None:
    declared.publish("jobs.io")
    declared.declare()
    assert declared.ready("jobs.io") == 1


def test_services_may_declare_at_the_same_time(broker: Broker) -> None:
    with ThreadPoolExecutor(4) as services:
        for done in [services.submit(broker.declare) for _ in range(4)]:
            done.result()
    assert broker.ready("jobs.cpu") == 0


@pytest.mark.parametrize("lane", Lane)
def test_message_reaches_the_queue_of_its_lane_alone(declared: Broker, lane: Lane) -> None:
    declared.publish(lane.queue_name)
    assert {each: declared.ready(each.queue_name) for each in Lane} == {
        each: int(each is lane) for each in Lane
    }


def test_queue_that_exists_with_other_arguments_is_an_error(broker: Broker) -> None:
    with broker.channel() as channel:
        channel.queue_declare("jobs.io", durable=True, auto_delete=False)
    with pytest.raises(PreconditionFailed):
        broker.declare()


def test_rejected_message_is_in_both_dead_letter_queues_with_its_story(declared: Broker) -> None:
    declared.publish("jobs.io", '"a body"')
    with declared.channel() as channel:
        taken = channel.basic_get("jobs.io")
        channel.basic_reject(taken.delivery_tag, requeue=False)
    for queue in DEAD_QUEUES:
        dead = arrived(declared, queue)
        headers = headers_of(dead)
        assert headers["x-first-death-reason"] == "rejected"
        assert headers["x-first-death-queue"] == "jobs.io"
        assert headers["x-death"][0]["routing-keys"] == ["jobs.io"]
        assert dead.payload == "a body"


def test_message_that_ends_every_worker_is_dead_lettered_at_the_limit(declared: Broker) -> None:
    declared.publish("jobs.cpu")
    deliveries = 0
    while declared.ready("jobs.dead") == 0:
        if eventually(lambda: declared.ready("jobs.cpu") > 0, 1) and die_with(declared, "jobs.cpu"):
            deliveries += 1
        assert deliveries <= DELIVERY_LIMIT + 1
    assert deliveries == DELIVERY_LIMIT + 1
    for queue in DEAD_QUEUES:
        headers = headers_of(arrived(declared, queue))
        assert headers["x-first-death-reason"] == "delivery_limit"
        assert headers["x-first-death-queue"] == "jobs.cpu"


def test_dead_letter_survives_being_read_again_and_again(declared: Broker) -> None:
    declared.publish("jobs.io")
    with declared.channel() as channel:
        channel.basic_reject(channel.basic_get("jobs.io").delivery_tag, requeue=False)
    for _ in range(READINGS):
        assert eventually(lambda: declared.ready("jobs.dead") == 1)
        assert die_with(declared, "jobs.dead")
    assert eventually(lambda: declared.ready("jobs.dead") == 1)
