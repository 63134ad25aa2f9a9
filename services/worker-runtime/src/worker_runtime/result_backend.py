"""Celery's Redis backend, with ends that never change and without a subscription per task."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from celery.backends.redis import RedisBackend
from redis import BlockingConnectionPool
from redis.client import Pipeline
from redis.exceptions import ResponseError, WatchError

from contracts.keys import (
    attempts_key,
    cancel_key,
    ends_channel,
    meta_key,
    record_key,
    redeliveries_key,
    running_key,
)
from contracts.messages import BATCH_HEADER, REQUEUES_HEADER
from contracts.records import Attempt, Meta, Running
from contracts.requeues import queue_reopening
from contracts.states import BEGUN_STATES, PROGRESS_STATE, STARTED_STATE, SUCCESS_STATE

T = TypeVar("T")

REDIS_CONNECTIONS: Final = 16
"""Of one process. They are held for moments only; hundreds of threads share them one by one."""

# Redis takes no writes: it lacks a replica, can't save to disk, or lost its master. redis-py has
# no classes of its own for these.
_UNWRITABLE: Final = ("NOREPLICAS", "MISCONF", "MASTERDOWN")


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


class ResultBackend(RedisBackend):
    """Keeps what workers say of their tasks, and says it to whoever listens.

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
        """Return whether Redis may be back, or writable, or left alone, when it is asked again."""
        passing = isinstance(exc, ResponseError) and any(code in str(exc) for code in _UNWRITABLE)
        disturbed = isinstance(exc, WatchError)  # the API reopens a requeued job too
        return passing or disturbed or bool(super().exception_safe_to_retry(exc))

    def begin(
        self,
        task_id: str,
        job_id: str,
        running: Running,
        requeues: int,
        *,
        redelivered: bool,
    ) -> Beginning:
        """Write that a task runs, and return what there is to know before it does.

        Written first and asked second: a cancel does it the other way round, so that one of the two
        always sees the other. A message that came out of the dead letters reopens what had ended.
        """
        meta = _running_meta(STARTED_STATE, running, requeues)

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
        end = Meta.from_redis(raw_end)
        # What it finds may be what it wrote, when Redis had it and its answer was lost.
        before = None if end or raw_before == meta.encode() else Meta.from_redis(raw_before)
        if before and before.status not in BEGUN_STATES:
            before = None
        if requeues and (end is None or end.requeues < requeues):
            self._retried(lambda: self._reopen({task_id, job_id}, job_id, requeues))
            end = None
        return Beginning(end, before, bool(cancelled), counted[0] if counted else 0)

    def report(self, task_id: str, job_id: str, running: Running, requeues: int) -> bool:
        """Write how far a task is; return whether its job was cancelled meanwhile."""
        meta = _running_meta(PROGRESS_STATE, running, requeues)

        def write() -> bool:
            with self.client.pipeline(transaction=False) as pipeline:
                pipeline.set(running_key(task_id), meta, ex=self.expires)
                pipeline.publish(meta_key(task_id), meta)
                pipeline.exists(cancel_key(job_id))
                return bool(pipeline.execute()[-1])

        return bool(self._retried(write))

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
        keys = [meta_key(task_id) for task_id in task_ids]
        with self.client.pipeline() as transaction:
            transaction.watch(*keys)
            ends = dict(zip(keys, transaction.mget(keys), strict=True))
            record = transaction.get(record_key(job_id))
            transaction.multi()
            queue_reopening(transaction, job_id, requeues, ends, record, self.expires)
            transaction.execute()

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
        ended_attempt = getattr(request, "ended_attempt", None)
        with self.client.pipeline(transaction=False) as pipeline:
            if ended_attempt:  # before the end: who sees the end, sees how it came about
                self._push_attempt(pipeline, *ended_attempt)
            key = meta_key(task_id) if is_end else running_key(task_id)
            pipeline.set(key, payload, ex=self.expires, nx=is_end)
            pipeline.publish(meta_key(task_id), payload)
            if batch := _batch_that_waits_for(task_id, state, request):
                pipeline.publish(ends_channel(batch), request.root_id or task_id)
            pipeline.execute()
        if ended_attempt:
            request.ended_attempt = None  # what is stored later is not of this attempt's end
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


def _running_meta(status: str, running: Running, requeues: int) -> str:
    meta = Meta(status=status, result=running.model_dump(mode="json"), requeues=requeues)
    return meta.model_dump_json()


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
