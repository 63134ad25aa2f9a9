"""The Celery application of every service: what a message is and what delivery means.

The settings are those that FIELD-NOTES found right for at-least-once; each service adds none of
its own. Messages are Celery protocol 2 in JSON, so that any Celery client or worker reads them.
"""

import socket
from dataclasses import dataclass
from typing import Any, Final

from celery import Celery
from celery.backends.redis import RedisBackend
from kombu.serialization import dumps

from contracts.lanes import LANE_QUEUES, Lane
from contracts.records import Attempt, JobRecord, attempts_key, record_key
from contracts.settings import SharedSettings
from contracts.tasks import CATALOGUE

PERSISTENT: Final = 2
"""AMQP delivery mode of messages that survive a restart of the broker."""

BROKER_TRANSPORT_OPTIONS: Final[dict[str, Any]] = {
    "confirm_publish": True,
    # confirm_timeout alone does not bound a publish: kombu then waits in Channel.close().
    "read_timeout": 5,
    "write_timeout": 5,
    # kombu's default of one second cuts the connection on a hiccup of the network.
    "socket_settings": {socket.TCP_USER_TIMEOUT: 10_000},
}


class ResultBackend(RedisBackend):
    """Celery's Redis backend, without a subscription for every task that is published.

    Nobody here waits on an AsyncResult, and the subscription would make publishing depend on Redis.
    """

    connection_errors: tuple[type[Exception], ...]
    expires: int

    def on_task_call(self, producer: object, task_id: str) -> None:
        """Do nothing."""

    def create_record(self, record: JobRecord) -> bool:
        """Write the record of a new job; return False if there is one of its id already."""
        key, value = record_key(record.id), record.model_dump_json()
        created = self.ensure(
            lambda: self.client.set(key, value, nx=True, exat=record.expires_at), ()
        )
        return bool(created)

    def withdraw_record(self, record: JobRecord) -> None:
        """Delete the record of a job that was not published, unless it is somebody else's."""
        key = record_key(record.id)
        if self.client.get(key) == record.model_dump_json().encode():
            self.client.delete(key)

    def append_attempt(self, job_id: str, attempt: Attempt) -> None:
        """Append to a job's attempts, retrying as results are: a lost history would mislead."""
        key = attempts_key(job_id)

        def push() -> None:
            with self.client.pipeline() as pipeline:
                pipeline.rpush(key, attempt.model_dump_json())
                pipeline.expire(key, self.expires).execute()

        self.ensure(push, ())


def create_celery(settings: SharedSettings, *, max_redis_connections: int = 20) -> Celery:
    """Create the Celery application for a service; `max_redis_connections` bounds its pool."""
    app = Celery("twinlane", set_as_current=False)
    app.conf.update(
        broker_url=settings.broker_url.get_secret_value(),
        broker_transport_options=BROKER_TRANSPORT_OPTIONS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # by default a worker gives up after 100 tries
        broker_channel_error_retry=True,
        broker_heartbeat=30,
        task_queues=LANE_QUEUES,
        task_default_queue=Lane.IO.queue_name,
        task_create_missing_queues=False,
        task_routes={spec.name: {"queue": spec.lane.queue_name} for spec in CATALOGUE.values()},
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # A final failure is rejected into the dead-letter exchange; a retry is still acknowledged.
        task_acks_on_failure=False,
        # Rejecting a job that met its hard time limit would requeue it, to take as long again.
        task_acks_on_timeout=True,
        task_track_started=False,  # `implement` does it, and says since when
        task_publish_retry_policy={"max_retries": 5, "interval_step": 0.5, "interval_max": 2},
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_consumer="contracts.worker:LaneConsumer",
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=True,
        result_backend=_backend_url(settings),
        result_expires=settings.job_ttl_seconds,
        result_backend_always_retry=True,
        result_backend_thread_safe=True,
        result_backend_transport_options={
            "additional_connection_errors": [
                "redis.exceptions.ReadOnlyError",
                "redis.exceptions.OutOfMemoryError",
            ]
        },
        redis_socket_timeout=5,
        redis_socket_connect_timeout=2,
        redis_backend_health_check_interval=30,
        redis_max_connections=max_redis_connections,
        enable_utc=True,
        timezone="UTC",
    )
    return app


def _backend_url(settings: SharedSettings) -> str:
    backend = f"{ResultBackend.__module__}:{ResultBackend.__qualname__}"
    return f"{backend}+{settings.result_url.get_secret_value()}"


@dataclass(frozen=True, slots=True)
class JobMessage:
    """A job's message: Celery protocol 2, ready for any AMQP client."""

    headers: dict[str, Any]
    body: bytes
    content_type: str
    content_encoding: str
    correlation_id: str


def build_message(app: Celery, record: JobRecord) -> JobMessage:
    """Have Celery build the message of a job's first stage, with the later ones chained to it."""
    first, *later = record.stages
    chain = [
        app.signature(
            stage.task,
            kwargs=_known_arguments(stage.task, record.args),
            options={"task_id": stage.id, "queue": CATALOGUE[stage.task].lane.queue_name},
        )
        for stage in reversed(later)  # Celery takes the next one from the end
    ]
    headers, properties, body, _ = app.amqp.as_task_v2(
        first.id,
        first.task,
        kwargs=_known_arguments(first.task, record.args),
        root_id=record.id,
        chain=chain or None,
    )
    headers["submitted_at"] = record.submitted_at.isoformat()
    content_type, content_encoding, payload = dumps(body, "json")
    return JobMessage(
        headers=headers,
        body=payload.encode(),
        content_type=content_type,
        content_encoding=content_encoding,
        correlation_id=properties["correlation_id"],
    )


def _known_arguments(task: str, args: dict[str, Any]) -> dict[str, Any]:
    """Return those of a job's arguments that one of its stages knows."""
    known = CATALOGUE[task].args.model_fields
    return {name: value for name, value in args.items() if name in known}
