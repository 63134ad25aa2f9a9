"""The Celery application of every service: what a message is and what delivery means.

The settings are those that FIELD-NOTES found right for at-least-once; each service adds none of
its own. Messages are Celery protocol 2 in JSON, so that any Celery client or worker reads them.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from celery import Celery
from celery.backends.redis import RedisBackend
from kombu.serialization import dumps
from redis import BlockingConnectionPool
from redis.client import Pipeline
from redis.exceptions import ResponseError, WatchError

from contracts.cancellation import RunningJobs
from contracts.lanes import LANE_QUEUES, Lane
from contracts.records import (
    BATCH_HEADER,
    PROGRESS_STATE,
    REQUEUES_HEADER,
    STARTED_STATE,
    SUCCESS_STATE,
    Attempt,
    JobRecord,
    Meta,
    Running,
    attempts_key,
    cancel_key,
    confirmed_key,
    ends_channel,
    meta_key,
    record_key,
    redeliveries_key,
    reopens_key,
    requeues_key,
    running_key,
)
from contracts.settings import SharedSettings
from contracts.tasks import CATALOGUE

T = TypeVar("T")

PERSISTENT: Final = 2
"""AMQP delivery mode of messages that survive a restart of the broker."""

_SHOWN_CHARACTERS: Final = 1_024

BROKER_TRANSPORT_OPTIONS: Final[dict[str, Any]] = {
    "confirm_publish": True,
    # confirm_timeout alone does not bound a publish: kombu then waits in Channel.close().
    "read_timeout": 5,
    "write_timeout": 5,
    # kombu's default of one second cuts the connection on a hiccup of the network.
    "socket_settings": {socket.TCP_USER_TIMEOUT: 10_000},
}


REDIS_CONNECTIONS: Final = 16
"""Of one process. They are held for moments only; hundreds of threads share them in turn."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a worker finds when it begins a task."""

    end: Meta | None
    """How the task has ended already: it was delivered twice."""
    unfinished: Meta | None
    """An attempt that somebody began and never ended: its worker died, or was cut off."""
    cancelled: bool
    redeliveries: int
    """How often this attempt was begun before, because its message came again."""


# Redis takes no writes: it lacks a replica, can't save to disk, or lost its master. redis-py has
# no classes of its own for these.
_UNWRITABLE: Final = ("NOREPLICAS", "MISCONF", "MASTERDOWN")


class ResultBackend(RedisBackend):
    """Celery's Redis backend, with ends that never change and without a subscription per task.

    Celery's own would overwrite a failure by whatever a second delivery does. Here the end of a
    task has its key to itself, and the first to write it is the only one; what a task does until
    then is kept beside it. Both are announced on the channel that Celery's clients know.

    Nobody here waits on an AsyncResult, and the subscription would make publishing depend on Redis.
    """

    # Threads that find no connection free wait for one: by default, that is an error.
    ConnectionPool = BlockingConnectionPool

    # Celery's own, which its type stubs do not know.
    connection_errors: tuple[type[Exception], ...]
    expires: int
    _ensure_retryable: Callable[..., Any]
    _get_result_meta: Callable[..., dict[str, Any]]

    def on_task_call(self, producer: object, task_id: str) -> None:
        """Do nothing."""

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Say whether Redis may be back, or writable, or left alone, when it is asked again."""
        passing = isinstance(exc, ResponseError) and any(code in str(exc) for code in _UNWRITABLE)
        disturbed = isinstance(exc, WatchError)  # the API reopens a requeued job too
        return passing or disturbed or bool(super().exception_safe_to_retry(exc))

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

    def mark_confirmed(self, record: JobRecord) -> None:
        """Remember that the broker has a job."""
        self.client.set(confirmed_key(record.id), "1", exat=record.expires_at)

    def is_with_broker(self, record: JobRecord) -> bool:
        """Say whether the broker is known to have a job, or to have had it."""
        traces = [f(stage.id) for stage in record.stages for f in (running_key, meta_key)]
        return bool(self.client.exists(confirmed_key(record.id), *traces))

    def begin(
        self,
        task_id: str,
        job_id: str,
        running: Running,
        requeues: int,
        *,
        redelivered: bool,
    ) -> Beginning:
        """Say that a task runs, and return what there is to know before it does.

        Said first and asked second: a cancel does it the other way round, so that one of the two
        always sees the other. A message that came out of the dead letters reopens what had ended.
        """
        meta = Meta(
            status=STARTED_STATE, result=running.model_dump(mode="json"), requeues=requeues
        ).model_dump_json()

        def ask() -> list[Any]:
            with self.client.pipeline(transaction=False) as pipeline:
                pipeline.set(running_key(task_id), meta, ex=self.expires, get=True)
                pipeline.publish(meta_key(task_id), meta)
                pipeline.get(meta_key(task_id))
                pipeline.exists(cancel_key(job_id))
                if redelivered:
                    key = redeliveries_key(task_id, requeues, running.attempt)
                    pipeline.incr(key)
                    pipeline.expire(key, self.expires)
                answers: list[Any] = pipeline.execute()
                return answers

        raw_before, _, raw_end, cancelled, *counted = self._retried(ask)
        end = _end(raw_end)
        # What it finds may be its own words, when Redis had them and its answer was lost.
        before = None if end or raw_before == meta.encode() else _meta(raw_before)
        if before and before.status not in {STARTED_STATE, PROGRESS_STATE}:
            before = None
        if requeues and (end is None or end.requeues < requeues):
            self._retried(lambda: self._reopen({task_id, job_id}, job_id, requeues))
            end = None
        return Beginning(end, before, bool(cancelled), counted[0] if counted else 0)

    def report(self, task_id: str, job_id: str, running: Running, requeues: int) -> bool:
        """Say how far a task is; return whether its job was cancelled meanwhile."""
        meta = Meta(
            status=PROGRESS_STATE, result=running.model_dump(mode="json"), requeues=requeues
        ).model_dump_json()

        def tell() -> bool:
            with self.client.pipeline(transaction=False) as pipeline:
                pipeline.set(running_key(task_id), meta, ex=self.expires)
                pipeline.publish(meta_key(task_id), meta)
                pipeline.exists(cancel_key(job_id))
                return bool(pipeline.execute()[-1])

        return bool(self._retried(tell))

    def append_attempt(self, job_id: str, attempt: Attempt) -> None:
        """Append to a job's attempts, retrying as results are: a lost history would mislead."""

        def push() -> None:
            with self.client.pipeline(transaction=False) as pipeline:
                self._push_attempt(pipeline, job_id, attempt)
                pipeline.execute()

        self._retried(push)

    def append_with_state(self, request: Any, job_id: str, attempt: Attempt) -> None:  # noqa: ANN401 - Celery's Context
        """Append an attempt together with the state that Celery stores of this request next.

        One round trip for both, and no moment in which a job's history and its end disagree.
        """
        request.ended_attempt = (job_id, attempt)

    def _push_attempt(self, pipeline: "Pipeline", job_id: str, attempt: Attempt) -> None:
        key = attempts_key(job_id)
        pipeline.rpush(key, attempt.model_dump_json())
        pipeline.expire(key, self.expires)

    def _retried(self, operation: Callable[[], T]) -> T:
        """Do it, and again until Redis is there: a job waits for it rather than be lost."""
        outcome: T = self._ensure_retryable(operation)
        return outcome

    def _reopen(self, task_ids: set[str], job_id: str, requeues: int) -> None:
        """Forget ends from before a requeue, but none that came after it."""
        keys = [meta_key(task_id) for task_id in task_ids]
        with self.client.pipeline() as pipeline:
            pipeline.watch(*keys)
            metas = zip(keys, map(_meta, pipeline.mget(keys)), strict=True)
            past = [key for key, meta in metas if meta and meta.requeues < requeues]
            batch = batch_of_record(pipeline.get(record_key(job_id)))
            pipeline.multi()
            pipeline.set(requeues_key(job_id), requeues, ex=self.expires)
            if past:
                pipeline.delete(*past)
            if past and batch:  # whoever remembers the job's end must forget it
                pipeline.incr(reopens_key(batch))
                pipeline.expire(reopens_key(batch), self.expires)
            pipeline.execute()

    def _store_result(
        self,
        task_id: str,
        result: Any,  # noqa: ANN401 - JSON
        state: str,
        traceback: str | None = None,
        request: Any = None,  # noqa: ANN401 - Celery's Context
        **_: object,
    ) -> Any:  # noqa: ANN401 - the result
        meta = self._get_result_meta(
            result=result, state=state, traceback=traceback, request=request
        )
        meta |= {"task_id": task_id, "requeues": requeues_of(request)}
        payload = self.encode(meta)
        is_end = state in self.READY_STATES
        key = meta_key(task_id) if is_end else running_key(task_id)
        ended_attempt = getattr(request, "ended_attempt", None)
        with self.client.pipeline(transaction=False) as pipeline:
            if ended_attempt:  # before the end: who sees the end, sees how it came about
                self._push_attempt(pipeline, *ended_attempt)
            pipeline.set(key, payload, ex=self.expires, nx=is_end, get=is_end)
            stored = len(pipeline) - 1
            pipeline.publish(meta_key(task_id), payload)
            if batch := _batch_that_waits_for(task_id, state, request):
                pipeline.publish(ends_channel(batch), request.root_id or task_id)
            there = pipeline.execute()[stored]
        if ended_attempt:
            request.ended_attempt = None  # what is stored later is not of this attempt's end
        if is_end and there and not _end(there):
            # A worker of the first version has said here that it runs the task.
            self.client.set(key, payload, ex=self.expires)
        return result

    def _get_task_meta_for(self, task_id: str) -> Any:  # noqa: ANN401 - Celery's dictionary
        end, running = self.client.mget(meta_key(task_id), running_key(task_id))
        found = end or running
        if not found:
            return {"status": "PENDING", "result": None}
        return self.decode_result(found)


def requeues_of(request: Any) -> int:  # noqa: ANN401 - Celery's Context
    """Return how often a job had been taken out of the dead letters when its message was sent."""
    headers = getattr(request, "headers", None) or {}
    return int(headers.get(REQUEUES_HEADER, 0))


def batch_of_record(raw: bytes | str | None) -> str | None:
    """Return the batch of a job from its record, as Redis has it."""
    return None if raw is None else JobRecord.model_validate_json(raw).batch


def _batch_that_waits_for(
    task_id: str,
    state: str,
    request: Any,  # noqa: ANN401 - Celery's Context
) -> str | None:
    """Return the batch that is to hear of this state: one that ends the whole job, if it has one.

    A stage that succeeds ends its job only if it is the last.
    """
    is_last = getattr(request, "root_id", None) in {None, task_id}
    if state not in ResultBackend.READY_STATES or (state == SUCCESS_STATE and not is_last):
        return None
    batch: str | None = (getattr(request, "headers", None) or {}).get(BATCH_HEADER)
    return batch


def _meta(raw: bytes | None) -> Meta | None:
    return None if raw is None else Meta.model_validate_json(raw)


def _end(raw: bytes | None) -> Meta | None:
    meta = _meta(raw)
    return meta if meta and meta.is_end else None


class JobApp(Celery):
    """A Celery application that knows which jobs its process runs."""

    running_jobs: RunningJobs


def create_celery(settings: SharedSettings) -> JobApp:
    """Create the Celery application for a service."""
    app = JobApp("twinlane", set_as_current=False)
    app.running_jobs = RunningJobs()
    app.conf.update(
        broker_url=settings.broker_url.get_secret_value(),
        broker_transport_options=BROKER_TRANSPORT_OPTIONS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # by default a worker gives up after 100 tries
        broker_channel_error_retry=True,
        broker_heartbeat=15,  # a connection that died silently is noticed after two of them
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
        result_backend_max_sleep_between_retries_ms=2_000,
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
        redis_max_connections=REDIS_CONNECTIONS,
        enable_utc=True,
        timezone="UTC",
    )
    return app


def result_url(app: Celery) -> str:
    """Return where an application keeps its results, as a Redis client understands it."""
    _, _, url = str(app.conf.result_backend).partition("+")
    return url


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
    own_headers = {BATCH_HEADER: record.batch} if record.batch else {}
    chain = [
        app.signature(
            stage.task,
            kwargs=known_arguments(stage.task, record.args),
            options={
                "task_id": stage.id,
                "queue": CATALOGUE[stage.task].lane.queue_name,
                "headers": own_headers,
            },
        )
        for stage in reversed(later)  # Celery takes the next one from the end
    ]
    arguments = known_arguments(first.task, record.args)
    headers, properties, body, _ = app.amqp.as_task_v2(
        first.id,
        first.task,
        kwargs=arguments,
        kwargsrepr=shown_arguments(arguments),
        root_id=record.id,
        chain=chain or None,
    )
    headers |= own_headers | {"submitted_at": record.submitted_at.isoformat()}
    content_type, content_encoding, payload = dumps(body, "json")
    return JobMessage(
        headers=headers,
        body=payload.encode(),
        content_type=content_type,
        content_encoding=content_encoding,
        correlation_id=properties["correlation_id"],
    )


def known_arguments(task: str, args: dict[str, Any]) -> dict[str, Any]:
    """Return those of a job's arguments that one of its stages knows."""
    known = CATALOGUE[task].args.model_fields
    return {name: value for name, value in args.items() if name in known}


def shown_arguments(arguments: dict[str, Any]) -> str:
    """Return what Flower shows of a task's arguments. Celery's own takes ten times as long."""
    return repr(arguments)[:_SHOWN_CHARACTERS]
