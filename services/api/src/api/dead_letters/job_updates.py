"""What the API writes of jobs whose messages died: that they failed, and that they run again."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from redis.asyncio.client import Pipeline

from api.dead_letters.letter import DELIVERY_LIMIT_REASON, Death
from api.dead_letters.message import RequeuedMessage
from api.store.jobs import end_meta
from api.store.redis import RedisClient
from contracts.failures import FailureReason
from contracts.keys import (
    attempts_key,
    cancel_key,
    ends_channel,
    meta_key,
    record_key,
    requeues_key,
    running_key,
)
from contracts.records import Attempt, Meta, batch_of
from contracts.requeues import queue_reopening
from contracts.states import FAILURE_STATE

_PENDING: Final = {"status": "PENDING", "result": None}
"""What Celery answers for a task that has not begun."""


class JobUpdates:
    """Fails jobs that the broker gave up, and reopens those that are requeued.

    All methods raise ResultsUnavailable if Redis does not answer in time.
    """

    def __init__(self, redis: RedisClient, job_ttl_seconds: int) -> None:
        self._redis = redis.client
        self._bounded = redis.bounded
        self._job_ttl_seconds = job_ttl_seconds

    async def prepare(self, job_ids: Iterable[str]) -> None:
        """Keep what is known of jobs for as long as of new ones, and delete earlier cancels."""
        async with (
            self._bounded(),
            self._redis.pipeline(transaction=False) as pipeline,
        ):
            for job_id in job_ids:
                for key in (record_key(job_id), attempts_key(job_id)):
                    pipeline.expire(key, self._job_ttl_seconds, gt=True)
                pipeline.delete(cancel_key(job_id))
            await pipeline.execute()

    async def reopen(self, message: RequeuedMessage) -> None:
        """Make a job that was published again count as queued, however it ended before.

        Raises:
            ResultsUnavailable: somebody else wrote at the same time.

        """
        job_id, requeues = message.job_id, message.requeues
        keys = {meta_key(job_id), meta_key(message.letter.death.task_id or job_id)}
        async with self._bounded(), self._redis.pipeline() as transaction:
            await transaction.watch(*keys)
            ends = dict(zip(keys, await transaction.mget(*keys), strict=True))
            record = await transaction.get(record_key(job_id))
            transaction.multi()  # type: ignore[no-untyped-call]
            # A worker may have run it and ended it already since it was published: that end stays.
            queue_reopening(transaction, job_id, requeues, ends, record, self._job_ttl_seconds)
            transaction.publish(meta_key(job_id), json.dumps(_PENDING | {"task_id": job_id}))
            await transaction.execute()

    async def end(self, job_id: str, death: Death) -> bool:
        """Write that a job failed with its message; return False if it has ended or was requeued.

        Raises:
            ResultsUnavailable: somebody else wrote at the same time.

        """
        key, running = meta_key(job_id), running_key(death.task_id or job_id)
        async with self._bounded(), self._redis.pipeline() as transaction:
            watched = (key, running, requeues_key(job_id))
            await transaction.watch(*watched)
            raw_end, raw_running, requeues = await transaction.mget(*watched)
            if _is_outdated(death, Meta.from_redis(raw_end), int(requeues or 0)):
                return False
            batch = batch_of(await transaction.get(record_key(job_id)))
            transaction.multi()  # type: ignore[no-untyped-call]
            if attempt := _lost_attempt(Meta.from_redis(raw_running), death):
                self._append(transaction, job_id, attempt)
                transaction.delete(running)  # or it would be appended once more
            self._fail(transaction, job_id, death)
            if batch:
                transaction.publish(ends_channel(batch), job_id)
            await transaction.execute()
        return True

    def _append(self, transaction: Pipeline, job_id: str, attempt: Attempt) -> None:
        transaction.rpush(attempts_key(job_id), attempt.model_dump_json())
        transaction.expire(attempts_key(job_id), self._job_ttl_seconds)

    def _fail(self, transaction: Pipeline, job_id: str, death: Death) -> None:
        meta = end_meta(
            job_id,
            FAILURE_STATE,
            FailureReason.DEAD_LETTERED.error_type,
            death.description,
            death.requeues,
        )
        transaction.set(meta_key(job_id), meta, ex=self._job_ttl_seconds)
        transaction.publish(meta_key(job_id), meta)


def _is_outdated(death: Death, end: Meta | None, requeues: int) -> bool:
    """Return whether the job has ended, or was requeued, after the message was sent that died."""
    has_ended = end is not None and end.is_end and end.requeues >= death.requeues
    return has_ended or requeues > death.requeues


def _lost_attempt(meta: Meta | None, death: Death) -> Attempt | None:
    """Return the attempt that the message died with, which no worker was left to write."""
    if meta is None or death.reason != DELIVERY_LIMIT_REASON or meta.requeues != death.requeues:
        return None
    return meta.lost_attempt(death.task or "unknown", death.died_at or datetime.now(UTC))
