"""What the workers of both lanes do the same: connect, show that they live, count, stop."""

import logging
import os
import socket
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

from amqp.exceptions import NotFound, ResourceLocked
from celery import Celery, bootsteps, signals
from celery.worker import state as worker_state
from celery.worker.consumer import Consumer
from celery.worker.control import inspect_command
from kombu import Connection

from contracts.cancel_watch import LOOK_SECONDS, CancelWatch
from contracts.lanes import LANE_QUEUES, Lane, declare_topology
from contracts.tasks import specs_of
from contracts.wire import JobApp, ResultBackend, result_url
from contracts.worker_counts import COUNT_TASKS, WorkerCount

HEARTBEAT_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class LaneConsumer(Consumer):
    """Celery's consumer, hardened at the places where its defaults lose jobs or hang."""

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


def run_worker(  # noqa: PLR0913 - what one worker may differ in from another
    app: JobApp,
    lane: Lane,
    *,
    pool: str,
    concurrency: int,
    beat: Callable[[], object] | None,
    name: str | None = None,
    cancel_grace_seconds: float | None = None,
) -> int:
    """Serve a lane until SIGTERM, then finish what runs, and return the exit code.

    `beat` is called every HEARTBEAT_SECONDS while the broker is connected. `name` must
    differ from that of every other worker. A process that does not stop is killed
    `cancel_grace_seconds` after its job was cancelled; threads stop when they can.

    Raises:
        SystemExit: the worker would not do what the catalogue promises; says why in one line.

    """
    _check(app, lane)
    _register_count_tasks(lane)
    if beat:
        app.steps["consumer"].add(_timer_step("Beat", HEARTBEAT_SECONDS, beat))
    watch = CancelWatch(result_url(app), app.running_jobs, cancel_grace_seconds)
    app.steps["consumer"].add(_timer_step("CancelWatch", LOOK_SECONDS, watch.look))
    # Connecting a receiver keeps Celery from setting up its own logging.
    signals.setup_logging.connect(_keep_logging)
    worker = app.Worker(
        hostname=f"{name or f'worker-{lane}-{os.getpid()}'}@{socket.gethostname()}",
        pool=pool,
        concurrency=concurrency,
        queues=[lane.queue_name],
        without_gossip=True,
        without_mingle=True,
        quiet=True,  # a banner is no log line
    )
    worker.start()
    return int(worker.exitcode or 0)


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


def _check(app: Celery, lane: Lane) -> None:
    implemented = {name for name in app.tasks if not name.startswith("celery.")}
    if implemented != specs_of(lane):
        raise SystemExit(
            f"lane {lane} needs {sorted(specs_of(lane))} but this worker has {sorted(implemented)}"
        )
    if not cast("ResultBackend", app.backend).connection_errors:
        raise SystemExit("Redis retries are off: install celery[redis], which has `packaging`")


def _register_count_tasks(lane: Lane) -> None:
    newest: list[str] = []

    def note(request: Any, **_: object) -> None:  # noqa: ANN401 - Celery's Request
        submitted_at = request.request_dict.get("submitted_at")
        if submitted_at:
            newest[:] = [max([submitted_at, *newest])]

    @inspect_command(name=COUNT_TASKS)
    def count_tasks(state: object) -> dict[str, Any]:  # noqa: ARG001 - Celery passes it
        active = len(worker_state.active_requests)
        count = WorkerCount(
            lane=lane,
            active=active,
            reserved=len(worker_state.reserved_requests) - active,
            newest_submitted_at=newest[0] if newest else None,
        )
        return count.model_dump(mode="json")

    signals.task_received.connect(note, weak=False)


def _timer_step(
    name: str, seconds: float, action: Callable[[], object]
) -> type[bootsteps.StartStopStep]:
    """Return a step that does something at once and again and again, while consuming."""

    class TimerStep(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)
        timer: Any = None

        def start(self, parent: Consumer) -> None:
            action()
            self.timer = parent.timer.call_repeatedly(seconds, action)

        def stop(self, parent: Consumer) -> None:  # noqa: ARG002 - Celery passes it
            if self.timer:
                self.timer.cancel()

    return type(name, (TimerStep,), {"name": name})


def _keep_logging(**_: object) -> None:
    """Receive setup_logging: main.py has configured it."""
