"""The records of the jobs that beat submits, in Redis."""

import logging
from typing import Final

from redis import Redis, exceptions
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from contracts.keys import confirmed_key, meta_key, record_key, running_key
from contracts.records import JobRecord

_SOCKET_TIMEOUT_SECONDS: Final = 5
_CONNECT_TIMEOUT_SECONDS: Final = 2
_HEALTH_CHECK_SECONDS: Final = 30
_RETRIES: Final = 20
_RETRY_INTERVAL_SECONDS: Final = 1
_RETRIED: Final = (
    OSError,
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
)

logger = logging.getLogger(__name__)


class JobRecords:
    """Creates and withdraws records, and marks those of jobs that the broker has.

    Each method raises redis.exceptions.RedisError when Redis is away.
    """

    def __init__(self, result_url: str) -> None:
        """Take where Redis is, as in `redis://:password@host:6379/0`; connect when needed."""
        self._redis = Redis.from_url(
            result_url,
            socket_timeout=_SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            health_check_interval=_HEALTH_CHECK_SECONDS,
        )
        self._retry = Retry(ConstantBackoff(_RETRY_INTERVAL_SECONDS), _RETRIES, _RETRIED)

    def create(self, record: JobRecord) -> bool:
        """Write the record of a new job; return False if there is one of its id already.

        Waits some twenty seconds for a Redis that is away or takes no writes.
        """
        key, value = record_key(record.id), record.model_dump_json()
        created = self._retry.call_with_retry(
            lambda: self._redis.set(key, value, nx=True, exat=record.expires_at), _log_failure
        )
        return bool(created)

    def withdraw(self, record: JobRecord) -> None:
        """Delete the record of a job that was not published, unless it is somebody else's."""
        key = record_key(record.id)
        if self._redis.get(key) == record.model_dump_json().encode():
            self._redis.delete(key)

    def mark_confirmed(self, record: JobRecord) -> None:
        """Remember that the broker has a job."""
        self._redis.set(confirmed_key(record.id), "1", exat=record.expires_at)

    def is_with_broker(self, record: JobRecord) -> bool:
        """Return whether the broker is known to have a job, or to have had it."""
        traces = [key(stage.id) for stage in record.stages for key in (running_key, meta_key)]
        return bool(self._redis.exists(confirmed_key(record.id), *traces))


def _log_failure(error: Exception) -> None:
    logger.warning("Redis does not take a record: %s", error)
