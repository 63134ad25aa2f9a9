"""Records, metas and attempts in Redis, as the API reads and writes them: bounded in time."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

from api.concurrency import Batcher, yielding
from api.errors.types import JobNotFound
from api.store.redis import RedisClient, chunks
from contracts.keys import (
    UNCONFIRMED_PREFIX,
    attempts_key,
    cancel_key,
    confirmed_key,
    ends_channel,
    meta_key,
    record_key,
    requeues_key,
    running_key,
    unconfirmed_key,
)
from contracts.records import Attempt, JobRecord, Meta, StageMetas
from contracts.states import SUCCESS_STATE
from contracts.status import JobStatus, derive_status

_READ_AT_ONCE: Final = 100
"""Snapshots that share a round trip; results may have 64 KiB each."""

_CHUNK: Final = 500
"""Jobs read or written in one round trip: enough to be quick, few enough not to hold up others."""
_CHUNK_CHARACTERS: Final = 2**20
"""The same for records: of large ones, fewer are written at once."""

_CREATE: Final = """
local is_new = {}
for i, key in ipairs(KEYS) do
  local written = redis.call('SET', key, ARGV[2 * i - 1], 'NX', 'EXAT', ARGV[2 * i])
  is_new[i] = written and 1 or 0
end
return is_new
"""
"""Writes what is not there yet. A third of what a pipeline costs, as it is one command."""


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """A job as Redis knows it at one moment."""

    record: JobRecord
    status: JobStatus
    result: Any
    attempts: list[Attempt]
    requeues: int = 0
    cancel_requested_at: datetime | None = None


class JobStore:
    """The API's view of the result backend.

    All methods raise ResultsUnavailable if Redis does not answer in time, or refuses.
    """

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis.client
        self._bounded = redis.bounded
        self._read = Batcher(self._read_all, _READ_AT_ONCE)
        self._create = redis.client.register_script(_CREATE)

    async def create(self, record: JobRecord) -> bool:
        """Write the record of a new job, until its `expires_at`; return False if there is one."""
        (is_new,) = await self.create_many([record])
        return is_new

    async def create_many(self, records: Sequence[JobRecord]) -> list[bool]:
        """Write the records of many new jobs; return for each whether it is new."""
        are_new: list[bool] = []
        for keys, arguments in _writes(records):
            async with self._bounded():
                are_new += map(bool, await self._create(keys, arguments))
        return are_new

    async def delete(self, job_ids: Sequence[str]) -> None:
        """Take back the records of jobs that were certainly not published."""
        async with self._bounded():
            await self._redis.delete(*map(record_key, job_ids))

    async def mark_cancelled(self, records: Sequence[JobRecord]) -> None:
        """Leave the mark that nobody wants these jobs any more."""
        now = datetime.now(UTC).isoformat()
        for chunk in chunks(records, _CHUNK):
            async with self._bounded(), self._redis.pipeline(transaction=False) as pipeline:
                async for record in yielding(chunk):
                    pipeline.set(cancel_key(record.id), now, nx=True, exat=record.expires_at)
                await pipeline.execute()

    async def end(
        self, record: JobRecord, status: str, error_type: str, message: str, requeues: int = 0
    ) -> None:
        """End a job that no worker will end, unless it has ended already."""
        await self.end_many([(record, requeues)], status, error_type, message)

    async def end_many(
        self, jobs: Sequence[tuple[JobRecord, int]], status: str, error_type: str, message: str
    ) -> None:
        """End jobs, each with how often it was requeued, that no worker will end."""
        for chunk in chunks(jobs, _CHUNK):
            async with self._bounded(), self._redis.pipeline(transaction=False) as pipeline:
                async for record, requeues in yielding(chunk):
                    key = meta_key(record.id)
                    meta = end_meta(record.id, status, error_type, message, requeues)
                    pipeline.set(key, meta, nx=True, exat=record.expires_at)
                    pipeline.publish(key, meta)
                    if record.batch:
                        pipeline.publish(ends_channel(record.batch), record.id)
                await pipeline.execute()

    async def mark_confirmed(self, job_or_batch_id: str, expires_at: datetime) -> None:
        """Remember that the broker has all of what an Idempotency-Key stands for."""
        async with self._bounded():
            await self._redis.set(confirmed_key(job_or_batch_id), "1", exat=expires_at)

    async def is_confirmed(self, job_or_batch_id: str) -> bool:
        """Return whether the broker has all of what an Idempotency-Key stands for."""
        async with self._bounded():
            return bool(await self._redis.exists(confirmed_key(job_or_batch_id)))

    async def mark_unconfirmed(self, records: Sequence[JobRecord]) -> None:
        """Remember, over a restart too, that somebody has to find out whether jobs were queued."""
        async with self._bounded(), self._redis.pipeline(transaction=False) as pipeline:
            for record in records:
                pipeline.set(unconfirmed_key(record.id), "1", exat=record.expires_at)
            await pipeline.execute()

    async def clear_unconfirmed(self, job_id: str) -> None:
        """Forget that somebody has to find out: it is known, or it does not matter any more."""
        async with self._bounded():
            await self._redis.delete(unconfirmed_key(job_id))

    async def unconfirmed_ids(self) -> list[str]:
        """Return the ids of jobs of which nobody knows whether they were queued."""
        async with self._bounded():
            keys = [key async for key in self._redis.scan_iter(f"{UNCONFIRMED_PREFIX}*", 10_000)]
        return [key.decode().removeprefix(UNCONFIRMED_PREFIX) for key in keys]

    async def snapshot(self, job_id: str) -> JobSnapshot:
        """Return a job as it is now.

        Raises:
            JobNotFound: it has no record.

        """
        async with self._bounded():
            (raw_record, requeues, cancel, *raw_last), raw_attempts = await self._read(job_id)
            if raw_record is None:
                raise JobNotFound(job_id)
            record = JobRecord.model_validate_json(raw_record)
            keys = _meta_keys(record)[:-2]
            raw_earlier = await self._redis.mget(keys) if keys else []
        attempts = _distinct(map(Attempt.model_validate_json, raw_attempts))
        snapshot = _snapshot(record, [*raw_earlier, *raw_last], attempts, int(requeues or 0))
        return replace(snapshot, cancel_requested_at=_time(cancel))

    async def _read_all(self, job_ids: Sequence[str]) -> list[tuple[list[Any], list[bytes]]]:
        """Return what Redis has under the keys of each job, in one round trip."""
        keys = [_state_keys(job_id) for job_id in job_ids]
        async with self._bounded(), self._redis.pipeline(transaction=False) as pipeline:
            pipeline.mget(list(chain.from_iterable(keys)))
            for job_id in job_ids:
                pipeline.lrange(attempts_key(job_id), 0, -1)
            values, *attempts = await pipeline.execute()
        each = len(values) // len(job_ids)
        states = [values[start : start + each] for start in range(0, len(values), each)]
        return list(zip(states, attempts, strict=True))

    async def snapshots(self, job_ids: Sequence[str]) -> AsyncIterator[JobSnapshot]:
        """Yield many jobs as they are now, without their attempts; expired ones are left out."""
        for chunk in chunks(job_ids, _CHUNK):
            async with self._bounded():
                raw_records = await self._redis.mget(map(record_key, chunk))
                records = [
                    JobRecord.model_validate_json(raw) async for raw in yielding(raw_records) if raw
                ]
                keys = [
                    key
                    for record in records
                    for key in (requeues_key(record.id), *_meta_keys(record))
                ]
                raw = iter(await self._redis.mget(keys) if keys else [])
            async for record in yielding(records):
                requeues = int(next(raw) or 0)
                raw_metas = [next(raw) for _ in _meta_keys(record)]
                yield _snapshot(record, raw_metas, [], requeues)


def _writes(records: Iterable[JobRecord]) -> Iterator[tuple[list[str], list[str | int]]]:
    """Yield keys and arguments for `_CREATE`, not too many at once."""
    keys: list[str] = []
    arguments: list[str | int] = []
    size = 0
    for record in records:
        value = record.model_dump_json()
        keys.append(record_key(record.id))
        arguments += (value, int(record.expires_at.timestamp()))
        size += len(value)
        if len(keys) == _CHUNK or size >= _CHUNK_CHARACTERS:
            yield keys, arguments
            keys, arguments, size = [], [], 0
    if keys:
        yield keys, arguments


def _distinct(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Leave out attempts that were appended twice, say because Redis' first answer was lost."""
    return list({(attempt.task, attempt.started_at): attempt for attempt in attempts}.values())


def _meta_keys(record: JobRecord) -> list[str]:
    """Return the keys of a job's metas: of each stage its end and what it does before."""
    return [key for stage in record.stages for key in (meta_key(stage.id), running_key(stage.id))]


def _state_keys(job_id: str) -> tuple[str, ...]:
    """Return the keys of what is known of any job; what its earlier stages did comes on top."""
    return (
        record_key(job_id),
        requeues_key(job_id),
        cancel_key(job_id),
        meta_key(job_id),
        running_key(job_id),
    )


def _snapshot(
    record: JobRecord,
    raw_metas: Sequence[bytes | str | None],
    attempts: list[Attempt],
    requeues: int,
) -> JobSnapshot:
    metas = [Meta.from_redis(raw) for raw in raw_metas]
    tasks = [StageMetas(*pair) for pair in zip(metas[::2], metas[1::2], strict=True)]
    end = tasks[-1].end
    return JobSnapshot(
        record=record,
        status=derive_status(record, tasks, attempts, datetime.now(UTC), requeues=requeues),
        result=end.result if end and end.status == SUCCESS_STATE else None,
        attempts=attempts,
        requeues=requeues,
    )


def _time(raw: bytes | None) -> datetime | None:
    return None if raw is None else datetime.fromisoformat(raw.decode())


def end_meta(task_id: str, status: str, error_type: str, message: str, requeues: int) -> str:
    """Return what Celery's backend would have written."""
    error = {"exc_type": error_type, "exc_message": [message], "exc_module": "celery.exceptions"}
    meta: dict[str, Any] = {
        "status": status,
        "result": error,
        "traceback": None,
        "children": [],
        "date_done": datetime.now(UTC).isoformat(),
        "task_id": task_id,
        "requeues": requeues,
    }
    return json.dumps(meta)
