"""`python -m worker_io.main` serves the io lane until SIGTERM."""

import sys

from contracts.lanes import Lane
from contracts.logs import configure_logging
from contracts.settings import read_settings
from contracts.worker import run_worker
from worker_io.app import create_app
from worker_io.settings import WorkerIoSettings


def main() -> int:
    """Read the environment and run the worker."""
    settings = read_settings(WorkerIoSettings)
    configure_logging("worker-io", settings.log_level)
    return run_worker(
        create_app(settings),
        Lane.IO,
        pool="threads",
        concurrency=settings.io_concurrency,
        heartbeat_file=settings.heartbeat_file,
        name=settings.worker_name,
    )


if __name__ == "__main__":
    sys.exit(main())
