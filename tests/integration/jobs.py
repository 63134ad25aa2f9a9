"""Jobs as tests submit them and watch them, without an API."""

import uuid
from datetime import UTC, datetime
from typing import Any

import redis
from kombu import Connection

from beat.records import JobRecords
from beat.submission import Submitter
from contracts.celery_app import create_celery
from contracts.keys import (
    attempts_key,
    cancel_key,
    confirmed_key,
    meta_key,
    record_key,
    requeues_key,
    running_key,
    unconfirmed_key,
)
from contracts.messages import JobMessage, build_message
from contracts.records import Attempt, JobRecord, Meta, StageMetas
from contracts.states import JobState
from contracts.status import JobStatus, derive_status
from integration.place import Place
from servers import eventually
from twinlane_sdk.task_spec import TaskSpec
from twinlane_tasks.catalogue import bundled_tasks


class Jobs:
    """Submits as beat does, reads as the API does."""

    def __init__(self, place: Place) -> None:
        settings = place.settings()
        self.catalogue = bundled_tasks()
        self.celery = create_celery(settings, self.catalogue)
        records = JobRecords(place.result_url)
        self.submitter = Submitter(self.celery, self.catalogue, records, settings.job_ttl_seconds)
        self.redis = redis.Redis.from_url(place.result_url)

    def submit(self, spec: TaskSpec[Any, Any], **fields: Any) -> str:  # noqa: ANN401 - a task's arguments
        """Submit a job and return its id."""
        job_id = str(uuid.uuid4())
        assert self.submitter.submit(spec.name, fields, job_id)
        return job_id

    def cancel(self, job_id: str) -> None:
        """Leave the mark that the API leaves."""
        self.redis.set(cancel_key(job_id), datetime.now(UTC).isoformat())

    def publish_again(self, job_id: str, **headers: Any) -> None:  # noqa: ANN401 - AMQP's
        """Publish the message of a job once more, as RabbitMQ may deliver it twice."""
        record = self.record(job_id)
        message = self.message(record)
        with Connection(self.celery.conf.broker_url) as connection:
            self.celery.amqp.Producer(connection).publish(
                message.body,
                exchange="jobs",
                routing_key=f"jobs.{record.stages[0].task.partition('.')[0]}",
                headers=message.headers | headers,
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                correlation_id=message.correlation_id,
                mandatory=True,
            )

    def message(self, record: JobRecord) -> JobMessage:
        return build_message(self.celery, self.catalogue, record)

    def ids(self) -> set[str]:
        """Return the ids of all jobs that have a record."""
        return self._ids(record_key("*"))

    def unconfirmed(self) -> set[str]:
        """Return the ids of jobs of which no API knows yet whether the broker has them."""
        return self._ids(unconfirmed_key("*"))

    def is_confirmed(self, job_id: str) -> bool:
        """Return whether whoever submitted a job knows that the broker has it."""
        return bool(self.redis.exists(confirmed_key(job_id)))

    def _ids(self, pattern: str) -> set[str]:
        keys = self.redis.keys(pattern)
        assert isinstance(keys, list)
        return {str(key, "ascii").rpartition(":")[2] for key in keys if isinstance(key, bytes)}

    def record(self, job_id: str) -> JobRecord:
        return JobRecord.model_validate_json(self._get(record_key(job_id)) or b"")

    def status(self, job_id: str) -> JobStatus:
        record = self.record(job_id)
        tasks = [
            StageMetas(self._meta(meta_key(stage.id)), self._meta(running_key(stage.id)))
            for stage in record.stages
        ]
        requeues = int(self._get(requeues_key(job_id)) or 0)
        attempts = self.attempts(job_id)
        return derive_status(record, tasks, attempts, datetime.now(UTC), requeues=requeues)

    def attempts(self, job_id: str) -> list[Attempt]:
        raw = self.redis.lrange(attempts_key(job_id), 0, -1)
        assert isinstance(raw, list)
        return [Attempt.model_validate_json(attempt) for attempt in raw]

    def result(self, job_id: str) -> Any:  # noqa: ANN401 - JSON
        meta = self._meta(meta_key(job_id))
        return meta.result if meta and meta.status == "SUCCESS" else None

    def wait_for(self, job_id: str, *states: JobState, within_seconds: float = 60) -> JobStatus:
        """Wait until the job is in one of the states and return its status."""
        reached = eventually(lambda: self.status(job_id).state in states, within_seconds)
        status = self.status(job_id)
        assert reached, f"job {job_id} is {status} after {within_seconds:.0f} s"
        return status

    def outcome(self, job_id: str, within_seconds: float = 60) -> JobStatus:
        """Wait until the job has ended and return its status."""
        terminal = [state for state in JobState if state.is_terminal]
        return self.wait_for(job_id, *terminal, within_seconds=within_seconds)

    def _meta(self, key: str) -> Meta | None:
        raw = self._get(key)
        return Meta.model_validate_json(raw) if raw else None

    def _get(self, key: str) -> bytes | None:
        raw = self.redis.get(key)
        assert raw is None or isinstance(raw, bytes)
        return raw
