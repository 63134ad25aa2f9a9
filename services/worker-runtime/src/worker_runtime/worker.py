"""What the workers of both lanes do the same: connect, show that they live, count, stop."""

import os
import socket
from collections.abc import Callable
from typing import Any, Final, cast

from celery import bootsteps
from celery.worker.consumer import Consumer

from contracts.celery_app import keep_own_logging
from twinlane_sdk.lanes import Lane
from worker_runtime.app import WorkerApp, result_url
from worker_runtime.cancel_watch import LOOK_SECONDS, CancelWatch
from worker_runtime.counts import register_count_tasks
from worker_runtime.result_backend import ResultBackend

HEARTBEAT_SECONDS: Final = 5.0


def run_worker(  # noqa: PLR0913 - what one worker may differ in from another
    app: WorkerApp,
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
    register_count_tasks(lane)
    if beat:
        app.steps["consumer"].add(_timer_step("Beat", HEARTBEAT_SECONDS, beat))
    watch = CancelWatch(result_url(app), app.running_jobs, cancel_grace_seconds)
    app.steps["consumer"].add(_timer_step("CancelWatch", LOOK_SECONDS, watch.look))
    keep_own_logging()
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


def _check(app: WorkerApp, lane: Lane) -> None:
    implemented = {name for name in app.tasks if not name.startswith("celery.")}
    needed = app.catalogue.names_on(lane)
    if implemented != needed:
        raise SystemExit(
            f"lane {lane} needs {sorted(needed)} but this worker has {sorted(implemented)}"
        )
    if not cast("ResultBackend", app.backend).connection_errors:
        raise SystemExit("Redis retries are off: install celery[redis], which has `packaging`")


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
