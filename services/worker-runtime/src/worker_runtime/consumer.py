"""Celery's consumer, hardened at the places where its defaults lose jobs or hang."""

import logging
from collections.abc import Callable
from typing import Any, ClassVar

from amqp.exceptions import NotFound, ResourceLocked
from celery.worker.consumer import Consumer
from kombu import Connection

from contracts.topology import LANE_QUEUES, declare_topology

logger = logging.getLogger(__name__)


class LaneConsumer(Consumer):
    """Consumes a lane's queue; `worker_runtime.app` names it as the consumer of every worker."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[valid-type, misc]  # typed as a variable
        """Celery's start-up without its own declaration of the delays: declare_topology does it.

        Celery would declare every lane, and a worker may declare its own alone.
        """

        default_steps: ClassVar = [
            step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step
        ]

    _is_known = False

    def connect(self) -> Connection:
        """Connect and declare the topology, so that services may start in any order.

        Raises:
            SystemExit: the first time, when another worker has this one's name.

        """
        connection = super().connect()
        if not self._is_known:
            _refuse_double(connection, self.hostname)
            self._is_known = True
        consumed = self.app.amqp.queues.consume_from
        declare_topology(connection, [queue for queue in LANE_QUEUES if queue.name in consumed])
        return connection

    def connection_for_write(
        self, url: str | None = None, heartbeat: float | None = None
    ) -> Connection:
        """Open the connection of the worker's events without publisher confirms.

        During a memory alarm the main loop would otherwise wait for confirms, and stop draining.
        """
        connection = self.app.connection_for_write(url=url, heartbeat=heartbeat)
        connection.transport_options = {
            **(connection.transport_options or {}),
            "confirm_publish": False,
        }
        return self.ensure_connected(connection)

    def create_task_handler(
        self,
        *args: Any,  # noqa: ANN401 - Celery's own
    ) -> Callable[[Any], object]:
        """Dead-letter a body that is no task's; Celery's handler would fail, and the worker end."""
        handle: Callable[[Any], object] = super().create_task_handler(*args)

        def on_message(message: Any) -> object:  # noqa: ANN401 - kombu's Message
            try:
                _check_body(message.payload)
            except Exception as exc:  # noqa: BLE001 - whatever it is, nobody can run it
                self.on_decode_error(message, exc)
                return None
            return handle(message)

        return on_message

    def on_decode_error(self, message: Any, exc: Exception) -> None:  # noqa: ANN401 - kombu's Message
        """Dead-letter a body that can't be read; Celery would acknowledge it and so lose it."""
        logger.error("undecodable message rejected: %s", exc)
        message.reject()


def _check_body(body: object) -> None:
    """Check that a body is that of Celery's protocol 2: arguments, keyword arguments, embedded."""
    match body:
        case [list(), dict(), dict() | None]:
            return
        case _:
            raise TypeError("the body is not the arguments of a task")


def _refuse_double(connection: Connection, hostname: str) -> None:
    """Refuse a name that is taken: the two would cut each other off, again and again."""
    channel: Any
    with connection.channel() as channel:
        try:
            channel.queue_declare(f"{hostname}.celery.pidbox", passive=True)
        except NotFound:
            return
        except ResourceLocked:  # it exists, and is exclusive to the other's connection
            pass
    logger.critical("a worker named %s runs already: choose another WORKER_NAME", hostname)
    raise SystemExit(1)
