"""The combined state of a batch, derived from those of its jobs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from pydantic_core import from_json

from api.batches.cache import BatchCache, CachedBatch, JobShape
from api.batches.store import BatchStore
from api.concurrency import Batcher, yielding
from api.store.jobs import JobStore
from api.store.redis import RedisClient, chunks
from contracts.keys import meta_key, record_key, running_key
from contracts.records import BatchRecord, Meta, Reception
from contracts.states import JobState

_READERS_AT_ONCE: Final = 10_000
"""Clients that share one reading of a batch."""
_CHUNK: Final = 250
"""Jobs read in one round trip: what Python makes of them takes a few milliseconds."""


class BatchJob(NamedTuple):
    """A job of a batch, and where it is."""

    id: str
    task: str
    state: JobState


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """A batch at one moment; its jobs are those that have a record."""

    record: BatchRecord
    intake: Reception
    jobs: Sequence[BatchJob]
    counts: Mapping[JobState, int]
    state: JobState
    finished_at: datetime | None

    @property
    def open_ids(self) -> set[str]:
        """The ids of the jobs that have not ended."""
        return {job.id for job in self.jobs if not job.state.is_terminal}


class BatchStates:
    """Derives the states of batches from those of their jobs."""

    def __init__(self, redis: RedisClient, store: JobStore, batches: BatchStore) -> None:
        self._redis = redis.client
        self._bounded = redis.bounded
        self._store = store
        self._batches = batches
        self._cache = BatchCache()
        # Weak: a reader is there for as long as somebody waits for it.
        self._readers: WeakValueDictionary[str, Batcher[str, BatchStatus]] = WeakValueDictionary()

    async def read(self, batch_id: str) -> BatchStatus:
        """Return a batch as it is now; all who ask while it is being read share the next reading.

        Raises:
            BatchNotFound: there is none.
            ResultsUnavailable: Redis does not answer in time.

        """
        # Not the reading under way: it may have begun before what they want to see.
        reader = self._readers.get(batch_id)
        if reader is None:
            reader = self._readers[batch_id] = Batcher(self._read_for_all, _READERS_AT_ONCE)
        return await reader(batch_id)

    async def _read_for_all(self, same_ids: Sequence[str]) -> list[BatchStatus]:
        return [await self._read(same_ids[0])] * len(same_ids)

    async def _read(self, batch_id: str) -> BatchStatus:
        batch = await self._batches.read(batch_id)
        cached = await self._cache.get(batch)
        states = await self._job_states(cached)
        jobs = [
            BatchJob(job_id, cached.shapes[job_id].task, states[job_id])
            async for job_id in yielding(cached.job_ids)
            if job_id in states
        ]
        counts = Counter(job.state for job in jobs)
        state = combined_state(counts)
        if batch.intake is Reception.RECEIVING and state.is_terminal:
            state = JobState.RUNNING  # more jobs may come
        finished_at = cached.finished_at if state.is_terminal else None
        return BatchStatus(batch.record, batch.intake, jobs, counts, state, finished_at)

    async def _job_states(self, cached: CachedBatch) -> dict[str, JobState]:
        """Return the states of all jobs of a batch that have a record."""
        await self._read_records(
            cached, [job for job in cached.job_ids if job not in cached.shapes]
        )
        states: dict[str, JobState] = {}
        for chunk in chunks([job for job in cached.shapes if job not in cached.ends], _CHUNK):
            states |= await self._read_open(cached, chunk)
        states |= cached.ends
        return states

    async def _read_records(self, cached: CachedBatch, job_ids: Sequence[str]) -> None:
        """Read the records of jobs that have not been read yet, or were not there."""
        shared: dict[JobShape, JobShape] = {}
        for chunk in chunks(job_ids, _CHUNK):
            async with self._bounded():
                records = await self._redis.mget(map(record_key, chunk))
            async for job_id, record in yielding(zip(chunk, records, strict=True)):
                if record is not None:
                    shape = JobShape.of(from_json(record))
                    cached.shapes[job_id] = shared.setdefault(shape, shape)

    async def _read_open(self, cached: CachedBatch, job_ids: Sequence[str]) -> dict[str, JobState]:
        """Return the states of jobs that had not ended; remember of which they have."""
        states: dict[str, JobState] = {}
        begun: list[str] = []
        metas = await self._read_metas(cached, job_ids)
        now = datetime.now(UTC)
        for job_id, (end, *others) in metas:
            if end is None and not any(others):
                states[job_id] = cached.shapes[job_id].waiting_state(now)
            elif not cached.reopens and (ended := _end(end)):
                cached.end(job_id, *ended)
            else:
                begun.append(job_id)
        return states | await self._read_begun(cached, begun)

    async def _read_metas(
        self, cached: CachedBatch, job_ids: Sequence[str]
    ) -> Iterator[tuple[str, list[bytes | str | None]]]:
        """Return what workers wrote of each job and its stages, the job's end first."""
        keys = {job_id: _meta_keys(job_id, cached.shapes[job_id]) for job_id in job_ids}
        async with self._bounded():
            values = iter(await self._redis.mget([key for own in keys.values() for key in own]))
        return ((job_id, [next(values) for _ in own]) for job_id, own in keys.items())

    async def _read_begun(self, cached: CachedBatch, job_ids: Sequence[str]) -> dict[str, JobState]:
        """Return the states of jobs that run, by all that is known of them."""
        states: dict[str, JobState] = {}
        async for snapshot in self._store.snapshots(job_ids):
            job_id, status = snapshot.record.id, snapshot.status
            if status.state.is_terminal:
                cached.end(job_id, status.state, status.finished_at)
            else:
                states[job_id] = status.state
        return states


def combined_state(counts: Mapping[JobState, int]) -> JobState:
    """Return the state of a whole from how many of its jobs are in each."""
    present = {state for state, count in counts.items() if count}
    if all(state.is_terminal for state in present):
        return next(
            (s for s in (JobState.FAILED, JobState.CANCELLED) if s in present), JobState.SUCCEEDED
        )
    order = (JobState.RUNNING, JobState.RETRYING, JobState.QUEUED, JobState.SCHEDULED)
    state = next(state for state in order if state in present)
    has_begun = any(state.is_terminal for state in present)
    return JobState.RUNNING if has_begun else state


def _meta_keys(job_id: str, shape: JobShape) -> list[str]:
    """Return the keys of what workers write of a job and its earlier stages, its end first."""
    task_ids = (job_id, *shape.earlier_stages)
    return [key for task_id in task_ids for key in (meta_key(task_id), running_key(task_id))]


def _end(raw: bytes | str | None) -> tuple[JobState, datetime | None] | None:
    """Return how and when a job ended that was never reopened."""
    meta = Meta.from_redis(raw)
    return (meta.end_state, meta.date_done) if meta and meta.end_state else None
