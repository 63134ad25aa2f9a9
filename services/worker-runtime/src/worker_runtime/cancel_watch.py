"""Looks for cancels of the jobs that a worker runs, whoever missed a broadcast or restarted since.

The mark in Redis is what counts. A task that reports progress finds it by itself; this wakes those
that wait for a network, and ends by force those that compute on without ever looking.
"""

import logging
import os
import signal
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery.worker import state as worker_state
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from contracts.keys import cancel_key
from worker_runtime.cancellation import RunningJobs

LOOK_SECONDS: Final = 1.0
_REDIS_SECONDS: Final = 0.5
"""The worker's main loop waits for Redis here, and has heartbeats to send."""

logger = logging.getLogger(__name__)


class CancelWatch:
    """Cancels running jobs that carry the mark; kills processes that do not listen.

    `grace_seconds` is how long after its cancel a process is killed; None for threads, which can't
    be. The killed job is delivered again, and then finds its mark.
    """

    def __init__(self, result_url: str, jobs: RunningJobs, grace_seconds: float | None) -> None:
        self._redis = Redis.from_url(
            result_url,
            socket_timeout=_REDIS_SECONDS,
            socket_connect_timeout=_REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),  # the next look is soon enough
        )
        self._is_blind = False
        self._jobs = jobs
        self._grace = None if grace_seconds is None else timedelta(seconds=grace_seconds)

    def look(self) -> None:
        """Read the marks of all jobs that run."""
        requests = list(worker_state.active_requests)
        if not requests:
            return
        try:
            marks: list[Any] = self._redis.mget([cancel_key(_job_id(r)) for r in requests])
        except RedisError as exc:
            if not self._is_blind:
                logger.warning("can't look for cancels, again every second: %s", exc)
            self._is_blind = True
            return
        self._is_blind = False
        for request, mark in zip(requests, marks, strict=True):
            if mark:
                self._jobs.cancel(_job_id(request))
                self._end_overdue(request, datetime.fromisoformat(mark.decode()))

    def _end_overdue(self, request: Any, marked_at: datetime) -> None:  # noqa: ANN401 - Celery's Request
        if self._grace is None or not request.worker_pid:
            return
        began = datetime.fromtimestamp(request.time_start, UTC)
        if datetime.now(UTC) - max(began, marked_at) > self._grace:
            logger.warning("%s[%s] does not stop, its process is killed", request.name, request.id)
            os.kill(request.worker_pid, signal.SIGKILL)


def _job_id(request: Any) -> str:  # noqa: ANN401 - Celery's Request
    return str(request.root_id or request.id)
