"""How a running task hears that its job is not wanted any more."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twinlane_sdk.errors import JobCancelledError


class JobCancellation:
    """Whether one running job was cancelled: set by one thread, asked by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._stops: list[Callable[[], object]] = []

    def cancel(self) -> None:
        """Mark the job as not wanted any more, and call what ends its waits."""
        with self._lock:
            self._cancelled = True
            stops = list(self._stops)
        for stop in stops:
            stop()

    def stop_if_cancelled(self) -> None:
        """Return if the job is still wanted.

        Raises:
            JobCancelledError: it is not.

        """
        if self._cancelled:
            raise JobCancelledError("cancelled while it ran")

    @contextmanager
    def calling(self, stop: Callable[[], object]) -> Iterator[None]:
        """Have a cancel call `stop` while inside; at once if it has come already.

        For what a task waits in: `stop` runs in another thread and must end the wait.
        """
        with self._lock:
            self._stops.append(stop)
            cancelled = self._cancelled
        if cancelled:
            stop()
        try:
            yield
        finally:
            with self._lock:
                self._stops.remove(stop)


class RunningJobs:
    """The jobs that this process runs: where a cancel that comes from outside finds them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancellations: dict[str, JobCancellation] = {}

    @contextmanager
    def add(self, job_id: str) -> Iterator[JobCancellation]:
        """Count a job among the running ones while inside."""
        cancellation = JobCancellation()
        with self._lock:
            self._cancellations[job_id] = cancellation
        try:
            yield cancellation
        finally:
            with self._lock:
                # Delivered twice, a job may be here twice; each removes only itself.
                if self._cancellations.get(job_id) is cancellation:
                    del self._cancellations[job_id]

    def ids(self) -> list[str]:
        """Return the ids of the running jobs."""
        with self._lock:
            return list(self._cancellations)

    def cancel(self, job_id: str) -> None:
        """Cancel a job, if it runs here."""
        with self._lock:
            cancellation = self._cancellations.get(job_id)
        if cancellation:
            cancellation.cancel()
