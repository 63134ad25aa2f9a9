"""Records, metas and attempts in Redis, as the API reads and writes them: bounded in time."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from api.errors import ApiError, BatchNotFound, JobNotFound, ResultsUnavailable
from contracts.records import (
    SUCCESS_STATE,
    Attempt,
    BatchRecord,
    JobRecord,
    JobStatus,
    Meta,
    TaskMetas,
    attempts_key,
    batch_key,
    derive_status,
    meta_key,
    record_key,
    requeues_key,
    running_key,
)

T = TypeVar("T")

_CONNECTIONS: Final = 50

_CHUNK: Final = 500
"""Jobs read or written in one round trip: enough to be quick, few enough not to hold up others."""


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """A job as Redis knows it at one moment."""

    record: JobRecord
    status: JobStatus
    result: Any
    attempts: list[Attempt]


class JobStore:
    """The API's view of the result backend."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self.redis = Redis.from_pool(
            # Blocking: who finds all connections busy waits for one, instead of being refused.
            BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=timeout_seconds,
                socket_timeout=timeout_seconds,
                socket_connect_timeout=timeout_seconds,
                # Once more at once: a pooled connection does not survive a restart of Redis.
                retry=Retry(NoBackoff(), 1),
                health_check_interval=30,
            )
        )
        self._timeout_seconds = timeout_seconds
        self._unwritten: list[tuple[JobRecord, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()

    async def ping(self) -> None:
        """Ask Redis for a sign of life.

        Raises:
            ResultsUnavailable: there is none in time.

        """
        async with self._bounded():
            await self.redis.ping()

    async def create(self, record: JobRecord) -> None:
        """Write the record of a new job, until its `expires_at`.

        Under load, records that arrive while others are being written share one round trip; a
        record that comes alone waits for nobody.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unwritten.append((record, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_records())
        await written

    async def create_many(self, records: Sequence[JobRecord]) -> None:
        """Write the records of many new jobs."""
        for chunk in _chunks(records):
            await self._write(chunk)

    async def _write_records(self) -> None:
        while self._unwritten:
            waiting, self._unwritten = self._unwritten[:_CHUNK], self._unwritten[_CHUNK:]
            error = None
            try:
                await self._write([record for record, _ in waiting])
            except ApiError as exc:
                error = exc
            for _, written in waiting:
                if written.done():  # its request was cancelled meanwhile
                    continue
                if error:
                    written.set_exception(error)
                else:
                    written.set_result(None)

    async def _write(self, records: Sequence[JobRecord]) -> None:
        async with self._bounded(), self.redis.pipeline(transaction=False) as pipeline:
            for record in records:
                pipeline.set(
                    record_key(record.id),
                    record.model_dump_json(),
                    nx=True,
                    exat=record.expires_at,
                )
            await pipeline.execute()

    async def delete(self, job_ids: Sequence[str]) -> None:
        """Take back the records of jobs that were certainly not published."""
        async with self._bounded():
            await self.redis.delete(*map(record_key, job_ids))

    async def create_batch(self, batch: BatchRecord) -> None:
        """Write the record of a new batch, until its `expires_at`."""
        async with self._bounded():
            await self.redis.set(
                batch_key(batch.id), batch.model_dump_json(), nx=True, exat=batch.expires_at
            )

    async def batch(self, batch_id: str) -> BatchRecord:
        """Return a batch's record.

        Raises:
            BatchNotFound: there is none.

        """
        async with self._bounded():
            raw = await self.redis.get(batch_key(batch_id))
        if raw is None:
            raise BatchNotFound(batch_id)
        return BatchRecord.model_validate_json(raw)

    async def snapshot(self, job_id: str) -> JobSnapshot:
        """Return a job as it is now.

        Raises:
            JobNotFound: it has no record.

        """
        async with self._bounded():
            async with self.redis.pipeline(transaction=False) as pipeline:
                pipeline.mget(
                    record_key(job_id),
                    requeues_key(job_id),
                    meta_key(job_id),
                    running_key(job_id),
                )
                pipeline.lrange(attempts_key(job_id), 0, -1)
                (raw_record, requeues, *raw_last), raw_attempts = await pipeline.execute()
            if raw_record is None:
                raise JobNotFound(job_id)
            record = JobRecord.model_validate_json(raw_record)
            keys = _meta_keys(record)[:-2]
            raw_earlier = await self.redis.mget(keys) if keys else []
        attempts = _distinct(map(Attempt.model_validate_json, raw_attempts))
        return _snapshot(record, [*raw_earlier, *raw_last], attempts, int(requeues or 0))

    async def snapshots(self, job_ids: Sequence[str]) -> AsyncIterator[JobSnapshot]:
        """Yield many jobs as they are now, without their attempts; expired ones are left out."""
        for chunk in _chunks(job_ids):
            async with self._bounded():
                raw_records = await self.redis.mget(map(record_key, chunk))
                records = [JobRecord.model_validate_json(raw) for raw in raw_records if raw]
                keys = [
                    key
                    for record in records
                    for key in (requeues_key(record.id), *_meta_keys(record))
                ]
                raw = iter(await self.redis.mget(keys) if keys else [])
            for record in records:
                requeues = int(next(raw) or 0)
                raw_metas = [next(raw) for _ in _meta_keys(record)]
                yield _snapshot(record, raw_metas, [], requeues)
            await asyncio.sleep(0)  # let other requests in between chunks

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                yield
        except TimeoutError as exc:
            raise ResultsUnavailable("Redis did not answer in time.") from exc
        except (RedisError, OSError) as exc:
            raise ResultsUnavailable(f"Redis can't be used: {exc}.") from exc


def _meta(raw: bytes | str | None) -> Meta | None:
    return None if raw is None else Meta.model_validate_json(raw)


def _distinct(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Leave out what was said twice of one attempt, say by who lost Redis' first answer."""
    return list({(attempt.task, attempt.started_at): attempt for attempt in attempts}.values())


def _meta_keys(record: JobRecord) -> list[str]:
    """Return the keys of a job's metas: of each stage its end and what it does before."""
    return [key for stage in record.stages for key in (meta_key(stage.id), running_key(stage.id))]


def _snapshot(
    record: JobRecord,
    raw_metas: Sequence[bytes | str | None],
    attempts: list[Attempt],
    requeues: int,
) -> JobSnapshot:
    metas = [_meta(raw) for raw in raw_metas]
    tasks = [TaskMetas(*pair) for pair in zip(metas[::2], metas[1::2], strict=True)]
    end = tasks[-1].end
    return JobSnapshot(
        record=record,
        status=derive_status(record, tasks, attempts, datetime.now(UTC), requeues=requeues),
        result=end.result if end and end.status == SUCCESS_STATE else None,
        attempts=attempts,
    )


def _chunks(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
