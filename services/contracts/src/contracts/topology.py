"""The exchange, the lanes' queues and the dead letters, and how they are declared.

Queue arguments can't be changed later, so only what must be there is an argument: the type, where
dead messages go, and the delivery limit that ends a job which kills its workers. Limits that may
be tuned are RabbitMQ policies.

A broker of ours has all of it from its first moment: deploy/rabbitmq/definitions holds a record of
what is declared here.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

from amqp.exceptions import AccessRefused, NotFound
from kombu import Connection, Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    CELERY_DELAYED_DELIVERY_EXCHANGE,
    MAX_LEVEL,
    declare_native_delayed_delivery_exchanges_and_queues,
    level_name,
)

from twinlane_sdk.lanes import Lane

DELIVERY_LIMIT: Final = 5
"""Deliveries that may end with the worker's death; the next one is dead-lettered."""

# Requeues by readers count towards a quorum queue's limit (20 by default on RabbitMQ 4), and a
# dead letter must survive being read. RabbitMQ 3.10 refuses -1, so: a number nobody reaches.
_READ_FOR_EVER: Final = 1_000_000_000


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


_DELAYED: Final = Exchange(CELERY_DELAYED_DELIVERY_EXCHANGE, type="topic")
_DELAY_ENTRY: Final = Exchange(level_name(MAX_LEVEL), type="topic")


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

    `own` are the queues that the connection's user may declare; None is for everything. What is
    not one's own is declared only where there is nothing yet, as on a broker that was started
    without our definitions. Declaring what is there compares its arguments and mends its bindings.

    Where RabbitMQ refuses to declare something, it is enough that it is there.

    Raises:
        amqp.exceptions.PreconditionFailed: something exists already with other arguments.
        MissingTopologyError: something is missing and the user may not declare it.

    """
    if own is None or _is_missing(connection, JOBS):
        _declare(connection, DEAD)
        for queue in (DEAD_LETTERS, DEAD_LETTER_NOTICES):
            _declare(connection, queue)
        _declare_delays(connection)
        own = LANE_QUEUES
    for queue in own:
        _declare(connection, queue)


def _declare(connection: Connection, thing: Exchange | Queue) -> None:
    with _content_if_there(connection, thing), connection.channel() as channel:
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
    """Declare the levels of Celery's delayed delivery, and where they lead: to the lanes."""
    with _content_if_there(connection, _DELAY_ENTRY):
        declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
    _declare(connection, JOBS)
    with _content_if_there(connection, _DELAYED), connection.channel() as channel:
        for queue in LANE_QUEUES:
            JOBS(channel).bind_to(_DELAYED.name, routing_key=_delayed_key(queue))


def _delayed_key(queue: Queue) -> str:
    """Return the key that also fits what comes from the delays, with its delay before the name."""
    return f"#.{queue.routing_key}"


@contextmanager
def _content_if_there(connection: Connection, thing: Exchange | Queue) -> Iterator[None]:
    try:
        yield
    except AccessRefused as exc:
        if _is_missing(connection, thing):
            raise MissingTopologyError(thing) from exc


def _is_missing(connection: Connection, thing: Exchange | Queue) -> bool:
    """Return whether something is certainly not there."""
    with connection.channel() as channel:
        try:
            if isinstance(thing, Exchange):
                thing(channel).declare(passive=True)
            else:
                thing(channel).queue_declare(passive=True)
        except NotFound:
            return True
        except AccessRefused:
            return False  # since 4.2.6, RabbitMQ tells only those who may do something with it
    return False
