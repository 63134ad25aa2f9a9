"""`python -m worker_io.main` serves the io lane until SIGTERM."""

import sys
from collections.abc import Callable
from functools import partial

from contracts.lanes import Lane
from contracts.logs import configure_logging
from contracts.settings import read_settings
from contracts.worker import run_worker
from worker_io.app import create_app
from worker_io.processes import run_processes
from worker_io.settings import WorkerIoSettings


def main() -> int:
    """Read the environment and run the worker's processes."""
    settings = read_settings(WorkerIoSettings)
    configure_logging("worker-io", settings.log_level)
    return run_processes(settings.io_processes, partial(_serve, settings), settings.heartbeat_file)


def _serve(settings: WorkerIoSettings, number: int, beat: Callable[[], None]) -> int:
    return run_worker(
        create_app(settings),
        Lane.IO,
        pool="threads",
        concurrency=settings.io_concurrency,
        beat=beat,
        name=f"{settings.worker_name}-{number}" if settings.worker_name else None,
    )


if __name__ == "__main__":
    sys.exit(main())
