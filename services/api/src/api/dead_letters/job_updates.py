"""What the API writes of a job's end and of its lives after: by the undertaker and by a requeue."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from redis.asyncio import Redis

from api.dead_letters.letter import DELIVERY_LIMIT_REASON, Death
from api.dead_letters.message import Revival
from api.store.jobs import end_meta
from api.store.redis import bounded
from contracts.records import (
    FAILURE_STATE,
    PROGRESS_STATE,
    STARTED_STATE,
    Attempt,
    AttemptError,
    Meta,
    Running,
    attempts_key,
    cancel_key,
    ends_channel,
    meta_key,
    record_key,
    reopens_key,
    requeues_key,
    running_key,
)
from contracts.wire import batch_of_record

_LOST: Final = AttemptError(
    type="WorkerLost", message="the worker was lost before the attempt ended"
)
_WAITING: Final = {"status": "PENDING", "result": None}
"""What Celery says of a task that has not begun."""


class JobLives:
    """Ends jobs that the broker gave up, and counts how often they were requeued."""

    def __init__(self, redis: Redis, timeout_seconds: float, job_ttl_seconds: int) -> None:
        self._redis = redis
        self._timeout_seconds = timeout_seconds
        self._job_ttl_seconds = job_ttl_seconds

    async def prepare(self, job_ids: Iterable[str]) -> None:
        """Keep what is known of jobs for as long as of new ones, and forget cancels of before."""
        async with (
            bounded(self._timeout_seconds),
            self._redis.pipeline(transaction=False) as pipeline,
        ):
            for job_id in job_ids:
                for key in (record_key(job_id), attempts_key(job_id)):
                    pipeline.expire(key, self._job_ttl_seconds, gt=True)
                pipeline.delete(cancel_key(job_id))
            await pipeline.execute()

    async def reopen(self, revival: Revival) -> None:
        """Make a job that was published again begin anew, whatever its last life came to."""
        job_id, requeues = revival.job_id, revival.requeues
        keys = {meta_key(job_id), meta_key(revival.letter.death.task_id or job_id)}
        async with bounded(self._timeout_seconds), self._redis.pipeline() as transaction:
            await transaction.watch(*keys)
            ends = zip(keys, map(_meta, await transaction.mget(*keys)), strict=True)
            batch = batch_of_record(await transaction.get(record_key(job_id)))
            # A worker may have been quicker, and ended the new life already.
            past = [key for key, end in ends if end and end.requeues < requeues]
            transaction.multi()  # type: ignore[no-untyped-call]
            transaction.set(requeues_key(job_id), requeues, ex=self._job_ttl_seconds)
            if past:
                transaction.delete(*past)
            if past and batch:  # whoever remembers the job's end must forget it
                transaction.incr(reopens_key(batch))
                transaction.expire(reopens_key(batch), self._job_ttl_seconds)
            transaction.publish(meta_key(job_id), json.dumps(_WAITING | {"task_id": job_id}))
            await transaction.execute()

    async def end(self, job_id: str, death: Death) -> bool:
        """Write that a job failed with its message; return False if this life of it had ended.

        Raises:
            ResultsUnavailable: Redis does not answer, or somebody wrote at the same time.

        """
        key, running = meta_key(job_id), running_key(death.task_id or job_id)
        async with bounded(self._timeout_seconds), self._redis.pipeline() as transaction:
            watched = (key, running, requeues_key(job_id))
            await transaction.watch(*watched)
            raw_end, raw_running, requeues = await transaction.mget(*watched)
            end = _meta(raw_end)
            has_ended = end and end.is_end and end.requeues >= death.requeues
            if has_ended or int(requeues or 0) > death.requeues:
                return False
            batch = batch_of_record(await transaction.get(record_key(job_id)))
            transaction.multi()  # type: ignore[no-untyped-call]
            meta = end_meta(job_id, FAILURE_STATE, "DeadLettered", death.story, death.requeues)
            transaction.set(key, meta, ex=self._job_ttl_seconds)
            if attempt := _lost_attempt(_meta(raw_running), death):
                transaction.rpush(attempts_key(job_id), attempt.model_dump_json())
                transaction.expire(attempts_key(job_id), self._job_ttl_seconds)
                transaction.delete(running)  # told, and not to be told again
            transaction.publish(key, meta)
            if batch:
                transaction.publish(ends_channel(batch), job_id)
            await transaction.execute()
        return True


def _meta(raw: bytes | str | None) -> Meta | None:
    return Meta.model_validate_json(raw) if raw else None


def _lost_attempt(meta: Meta | None, death: Death) -> Attempt | None:
    """Return the run that the message died with, which no worker was left to tell of."""
    if meta is None or death.reason != DELIVERY_LIMIT_REASON or meta.requeues != death.requeues:
        return None
    if meta.status not in {STARTED_STATE, PROGRESS_STATE}:
        return None
    running = Running.model_validate(meta.result or {})
    ended_at = death.died_at or datetime.now(UTC)
    return Attempt(
        number=running.attempt,
        task=death.task or "unknown",
        worker=running.worker or "unknown",
        started_at=running.started_at or ended_at,
        ended_at=ended_at,
        error=_LOST,
        requeues=death.requeues,
    )
