"""Submits a scheduled job as the API does: the record first, then the confirmed message."""

import logging
import time
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from celery import Celery
from redis.exceptions import RedisError

from beat.records import JobRecords
from contracts.messages import PERSISTENT, build_message
from contracts.records import JobRecord, new_record
from contracts.topology import JOBS, declare_topology
from twinlane_sdk.catalogue import Catalogue

_TICKS: Final = uuid.UUID("6f1a3e52-6c53-4c0f-9d0e-1d8f3b0a7c11")
_OTHER_BEAT_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1
_CONNECT_RETRIES: Final = 60
_CONNECT_INTERVAL_SECONDS: Final = 5

logger = logging.getLogger(__name__)


def tick_id(entry: str, tick: datetime) -> str:
    """Return the id of the job of an entry's tick, a minute: the same from every beat."""
    return str(uuid.uuid5(_TICKS, f"{entry} {tick:%Y-%m-%dT%H:%M}"))


class Submitter:
    """Submits jobs; `app` builds and publishes their messages, and needs no result backend."""

    def __init__(
        self, app: Celery, catalogue: Catalogue, records: JobRecords, job_ttl_seconds: int
    ) -> None:
        self._app = app
        self._catalogue = catalogue
        self._records = records
        self._job_ttl_seconds = job_ttl_seconds

    def submit(self, task: str, fields: Mapping[str, Any], job_id: str) -> bool:
        """Submit a job unless one of that id exists; return whether it was submitted.

        Waits some minutes for a broker that is down: a tick that fails is not repeated.

        Raises:
            pydantic.ValidationError: the schedule has arguments that the task does not take.
            redis.exceptions.RedisError: Redis stayed away.
            kombu.exceptions.OperationalError: the broker stayed away.

        """
        spec = self._catalogue[task]
        args = spec.args.model_validate(fields)
        record = new_record(spec, args, job_id=job_id, ttl_seconds=self._job_ttl_seconds)
        try:
            if not self._records.create(record) and self._is_submitted(record):
                logger.info("%s[%s] was submitted by another beat", task, job_id)
                return False
            # The record is new, or that of a beat that was killed before it published.
            self._publish(record)
        except BaseException:  # SystemExit too: a record without a message would never run
            self._withdraw(record)
            raise
        self._records.mark_confirmed(record)
        logger.info("%s[%s] submitted", task, job_id)
        return True

    def _withdraw(self, record: JobRecord) -> None:
        try:
            self._records.withdraw(record)
        except RedisError as exc:  # must not hide why it is withdrawn: SystemExit, perhaps
            # Whoever submits the tick next finds a record without a message, and publishes it.
            logger.warning("the record of %s was not withdrawn: %s", record.id, exc)

    def _is_submitted(self, record: JobRecord) -> bool:
        """Return whether another beat has published a job, or does so in a moment."""
        give_up = time.monotonic() + _OTHER_BEAT_SECONDS
        while not self._records.is_with_broker(record):
            if time.monotonic() > give_up:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _publish(self, record: JobRecord) -> None:
        message = build_message(self._app, self._catalogue, record)
        with self._app.connection_for_write() as connection:
            connection.ensure_connection(
                max_retries=_CONNECT_RETRIES, interval_max=_CONNECT_INTERVAL_SECONDS
            )
            declare_topology(connection, own=())
            self._app.amqp.Producer(connection).publish(
                message.body,
                exchange=JOBS.name,
                routing_key=self._catalogue[record.stages[0].task].lane.queue_name,
                headers=message.headers,
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                correlation_id=message.correlation_id,
                message_id=record.id,
                delivery_mode=PERSISTENT,
                mandatory=True,
            )
