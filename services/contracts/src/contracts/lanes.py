"""The exchange, the lanes' queues and the dead letters, and how they are declared.

Queue arguments can't be changed later, so only what must be there is an argument: the type, where
dead messages go, and the delivery limit that ends a job which kills its workers. Limits that may
be tuned are RabbitMQ policies.

A broker of ours has all of it from its first moment: deploy/rabbitmq/definitions holds a record of
what is declared here.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

from amqp.exceptions import AccessRefused, NotFound
from kombu import Connection, Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    CELERY_DELAYED_DELIVERY_EXCHANGE,
    MAX_LEVEL,
    declare_native_delayed_delivery_exchanges_and_queues,
    level_name,
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
        # By declare_topology alone: kombu would do it at every publish and consume, and who only
        # publishes to a lane or only consumes it needs no right to declare it.
        no_declare=True,
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


_LANES_AND_DEAD: Final[tuple[Exchange | Queue, ...]] = (
    DEAD,
    DEAD_LETTERS,
    DEAD_LETTER_NOTICES,
    JOBS,
    *LANE_QUEUES,
)
_DELAYED: Final = Exchange(CELERY_DELAYED_DELIVERY_EXCHANGE, type="topic")
_DELAYS: Final[tuple[Exchange | Queue, ...]] = (
    _DELAYED,
    *(Exchange(level_name(level), type="topic") for level in range(MAX_LEVEL + 1)),
    *(Queue(level_name(level)) for level in range(MAX_LEVEL + 1)),
)


class MissingTopologyError(ConnectionError):
    """Something that jobs travel through is missing, and this user may not declare it."""

    def __init__(self, missing: Exchange | Queue) -> None:
        kind = "exchange" if isinstance(missing, Exchange) else "queue"
        super().__init__(
            f"the {kind} {missing.name!r} is missing on the broker and this user may not declare "
            "it: a lane is declared by its worker, the dead letters by the API, everything by "
            "RabbitMQ when it starts with the definitions of deploy/rabbitmq"
        )


def declare_topology(connection: Connection, own: Collection[Queue] | None = None) -> None:
    """Make sure that all that jobs travel through is there. Any service may call it, in any order.

    What is missing is declared. Of what is there, the queues of `own` (everything, by default) are
    declared all the same, because that compares their arguments and mends their bindings; where
    RabbitMQ refuses it to the connection's user, it is enough that they are there.

    Raises:
        amqp.exceptions.PreconditionFailed: a queue exists already with other arguments.
        MissingTopologyError: something is missing and the user may not declare it.

    """
    for thing in _LANES_AND_DEAD:
        if own is None or thing in own or _first_missing(connection, [thing]):
            _declare(connection, thing)
    if own is None or _first_missing(connection, _DELAYS):
        _declare_delays(connection)


def _declare(connection: Connection, thing: Exchange | Queue) -> None:
    with _content_if_there(connection, [thing]), connection.channel() as channel:
        if isinstance(thing, Exchange):
            thing(channel).declare()
        else:
            _declare_queue(thing(channel))


def _declare_queue(bound: Queue) -> None:
    bound.queue_declare()
    bound.queue_bind()
    if bound.exchange == JOBS:
        bound.bind_to(JOBS.name, routing_key=_delayed_key(bound))


def _declare_delays(connection: Connection) -> None:
    with _content_if_there(connection, _DELAYS):
        declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
        with connection.channel() as channel:
            for queue in LANE_QUEUES:
                JOBS(channel).bind_to(_DELAYED.name, routing_key=_delayed_key(queue))


def _delayed_key(queue: Queue) -> str:
    """Return the key that also fits what comes from the delays, with its delay before the name."""
    return f"#.{queue.routing_key}"


@contextmanager
def _content_if_there(
    connection: Connection, things: Collection[Exchange | Queue]
) -> Iterator[None]:
    """Let RabbitMQ refuse to declare what is there already."""
    try:
        yield
    except AccessRefused as exc:
        if missing := _first_missing(connection, things):
            raise MissingTopologyError(missing) from exc


def _first_missing(
    connection: Connection, things: Collection[Exchange | Queue]
) -> Exchange | Queue | None:
    """Ask, which needs no permission, and return the first of `things` that is not there."""
    with connection.channel() as channel:
        for thing in things:
            try:
                if isinstance(thing, Exchange):
                    thing(channel).declare(passive=True)
                else:
                    thing(channel).queue_declare(passive=True)
            except NotFound:
                return thing
    return None
