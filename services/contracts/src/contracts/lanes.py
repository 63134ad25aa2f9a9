"""The exchange, the lanes' queues and the dead letters, and how they are declared.

Queue arguments can't be changed later, so only what must be there is an argument: the type, where
dead messages go, and the delivery limit that ends a job which kills its workers. Limits that may
be tuned are RabbitMQ policies.
"""

from enum import StrEnum
from typing import Any, Final

from kombu import Connection, Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

DELIVERY_LIMIT: Final = 5
"""Deliveries that may end with the worker's death; the next one is dead-lettered."""

# Requeues by readers count towards a quorum queue's limit (20 by default on RabbitMQ 4), and a
# dead letter must survive being read. RabbitMQ 3.10 refuses -1, so: a number nobody reaches.
_READ_FOR_EVER: Final = 1_000_000_000


class Lane(StrEnum):
    """A queue with its own kind of worker."""

    IO = "io"
    CPU = "cpu"

    @property
    def queue_name(self) -> str:
        """Name of the lane's queue, which is also its routing key."""
        return f"jobs.{self}"


JOBS: Final = Exchange("jobs", type="topic", durable=True)
DEAD: Final = Exchange("jobs.dead", type="fanout", durable=True)


def _quorum(name: str, exchange: Exchange, arguments: dict[str, Any]) -> Queue:
    return Queue(
        name,
        exchange=exchange,
        routing_key=name,
        durable=True,
        queue_arguments={"x-queue-type": "quorum"} | arguments,
    )


def lane_queue(lane: Lane) -> Queue:
    """Return the declaration of a lane's queue."""
    return _quorum(
        lane.queue_name,
        JOBS,
        {
            "x-dead-letter-exchange": DEAD.name,
            # At-least-once dead letters need reject-publish: nothing is dropped to make room.
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-delivery-limit": DELIVERY_LIMIT,
        },
    )


LANE_QUEUES: Final = tuple(lane_queue(lane) for lane in Lane)
DEAD_LETTERS: Final = _quorum("jobs.dead", DEAD, {"x-delivery-limit": _READ_FOR_EVER})
"""Keeps every dead message until somebody requeues or discards it."""
DEAD_LETTER_NOTICES: Final = _quorum(
    "jobs.dead.notices", DEAD, {"x-delivery-limit": _READ_FOR_EVER}
)
"""A second copy of every dead message, to be read at once and shown in the job's state."""


def declare_topology(connection: Connection) -> None:
    """Declare everything that jobs travel through. Any service may call it, in any order.

    Raises:
        amqp.exceptions.PreconditionFailed: a queue exists already with other arguments.

    """
    with connection.channel() as channel:
        for queue in (DEAD_LETTERS, DEAD_LETTER_NOTICES, *LANE_QUEUES):
            queue(channel).declare()
    declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
    for queue in LANE_QUEUES:
        bind_queue_to_native_delayed_delivery_exchange(connection, queue)
