"""The cpu worker's program: reads the environment once and serves the lane until SIGTERM."""

import os
import sys

from celery import signals

from contracts.logs import configure_logging
from contracts.settings import read_settings
from twinlane_sdk.lanes import Lane
from worker_cpu.app import create_app
from worker_cpu.scratch import remove_abandoned
from worker_cpu.settings import WorkerCpuSettings
from worker_runtime.worker import run_worker


def main() -> int:
    """Run the worker and return its exit code."""
    settings = read_settings(WorkerCpuSettings)
    configure_logging("worker-cpu", settings.log_level)
    remove_abandoned(settings.scratch_folder)
    # Only in the processes of jobs: the worker's own must answer the broker in time.
    signals.worker_process_init.connect(lambda **_: os.nice(settings.cpu_nice), weak=False)
    return run_worker(
        create_app(settings),
        Lane.CPU,
        pool="prefork",
        concurrency=settings.cpu_concurrency,
        beat=settings.heartbeat_file.touch if settings.heartbeat_file else None,
        name=settings.worker_name,
        cancel_grace_seconds=settings.cancel_grace_seconds,
    )


if __name__ == "__main__":
    sys.exit(main())
