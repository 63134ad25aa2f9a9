"""`python -m worker_io.main` serves the io lane until SIGTERM."""

import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import bootsteps

from contracts.logs import configure_logging
from contracts.settings import read_settings
from twinlane_sdk.lanes import Lane
from worker_io.app import create_app
from worker_io.prefork import run_processes
from worker_io.settings import WorkerIoSettings
from worker_io.threads import start_all
from worker_runtime.worker import run_worker

logger = logging.getLogger(__name__)


def main() -> int:
    """Read the environment and run the worker's processes."""
    settings = read_settings(WorkerIoSettings)
    configure_logging("worker-io", settings.log_level)
    return run_processes(settings.io_processes, partial(_serve, settings), settings.heartbeat_file)


def _serve(settings: WorkerIoSettings, number: int, heartbeat: Callable[[], None]) -> int:
    app = create_app(settings)
    app.steps["worker"].add(_StartThreads)
    return run_worker(
        app,
        Lane.IO,
        pool="threads",
        concurrency=settings.io_concurrency,
        beat=heartbeat,
        name=f"{settings.worker_name}-{number}" if settings.worker_name else None,
    )


class _StartThreads(bootsteps.StartStopStep):
    """Starts all threads of Celery's pool before there are jobs."""

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:  # noqa: ANN401 - Celery's WorkController
        try:
            start_all(parent.pool.executor, parent.concurrency)
        except RuntimeError as exc:
            logger.critical(
                "%s: with IO_CONCURRENCY=%d this process needs so many; lower it, or have the"
                " system allow more",
                exc,
                parent.concurrency,
            )
            raise SystemExit(1) from exc


if __name__ == "__main__":
    sys.exit(main())
