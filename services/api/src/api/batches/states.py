"""The combined state of a batch, without reading ten thousand jobs each time.

The end of a job is final, so a process remembers it and reads only what has not ended. Only taking
a job out of the dead letters reopens it; whoever does so counts it at its batch (`reopens_key`),
and a process that finds another number there than it remembers reads everything anew.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pydantic_core import from_json
from redis.asyncio import Redis

from api.batches.store import Batch, BatchStore
from api.concurrency import yielding
from api.store.jobs import JobStore
from api.store.redis import bounded
from contracts.records import (
    BatchRecord,
    JobState,
    Meta,
    Reception,
    meta_key,
    record_key,
    running_key,
)

_CHUNK: Final = 250
"""Jobs read in one round trip: what Python makes of them takes a few milliseconds."""
_MAX_REMEMBERED: Final = 100_000
"""Jobs that a process remembers, of the batches that were asked for last: some 30 MB at most."""
_TRUSTED_SECONDS: Final = 60.0
"""After so long everything is read anew: an API of the version before counts no reopened jobs, and
the records of some jobs expire before those of others."""


class BatchJob(NamedTuple):
    """A job of a batch, and where it is."""

    id: str
    task: str
    state: JobState


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """A batch at one moment; its jobs are those that have a record."""

    record: BatchRecord
    reception: Reception
    jobs: Sequence[BatchJob]
    counts: Mapping[JobState, int]
    state: JobState
    finished_at: datetime | None

    @property
    def open_ids(self) -> set[str]:
        """The ids of the jobs that have not ended."""
        return {job.id for job in self.jobs if not job.state.is_terminal}


class _Kind(NamedTuple):
    """What matters of a job's record; most jobs of a batch share one."""

    task: str
    run_at: datetime | None
    earlier: tuple[str, ...]
    """The ids of the stages before the last, which has the job's id."""


@dataclass(slots=True)
class _Memory:
    """What this process knows of one batch."""

    items: bytes
    reopens: int
    job_ids: list[str]
    since: float = field(default_factory=time.monotonic)
    kinds: dict[str, _Kind] = field(default_factory=dict)
    ends: dict[str, JobState] = field(default_factory=dict)
    finished_at: datetime | None = None

    def is_of(self, batch: Batch) -> bool:
        """Say whether it still holds."""
        is_young = time.monotonic() - self.since < _TRUSTED_SECONDS
        return is_young and (self.items, self.reopens) == (batch.items, batch.reopens)

    def end(self, job_id: str, state: JobState, at: datetime | None) -> None:
        """Remember that a job has ended."""
        self.ends[job_id] = state
        if at and (self.finished_at is None or at > self.finished_at):
            self.finished_at = at


class BatchStates:
    """Derives the states of batches from those of their jobs."""

    def __init__(
        self, redis: Redis, timeout_seconds: float, store: JobStore, batches: BatchStore
    ) -> None:
        self._redis = redis
        self._timeout_seconds = timeout_seconds
        self._store = store
        self._batches = batches
        self._memories: OrderedDict[str, _Memory] = OrderedDict()
        self._reading: dict[str, asyncio.Task[BatchStatus]] = {}
        self._next: dict[str, asyncio.Task[BatchStatus]] = {}

    async def read(self, batch_id: str) -> BatchStatus:
        """Return a batch as it is now; all who ask while it is being read share the next reading.

        Raises:
            BatchNotFound: there is none.
            ResultsUnavailable: Redis does not answer in time.

        """
        task = self._next.get(batch_id)
        if task is None:
            task = self._next[batch_id] = asyncio.create_task(self._read_after(batch_id))
            task.add_done_callback(lambda done: self._forget_task(batch_id, done))
        return await asyncio.shield(task)

    async def _read_after(self, batch_id: str) -> BatchStatus:
        if before := self._reading.get(batch_id):
            await asyncio.wait([before])
        self._reading[batch_id] = self._next.pop(batch_id)
        return await self._read(batch_id)

    def _forget_task(self, batch_id: str, done: asyncio.Task[BatchStatus]) -> None:
        if self._reading.get(batch_id) is done:
            del self._reading[batch_id]
        if not done.cancelled():
            done.exception()  # who asked may have gone: nobody else would look

    async def _read(self, batch_id: str) -> BatchStatus:
        batch = await self._batches.read(batch_id)
        memory = await self._remembered(batch)
        await self._learn(memory, [job for job in memory.job_ids if job not in memory.kinds])
        states: dict[str, JobState] = {}
        for chunk in _chunks([job for job in memory.kinds if job not in memory.ends]):
            states |= await self._read_open(memory, chunk)
        states |= memory.ends
        jobs = [
            BatchJob(job_id, memory.kinds[job_id].task, states[job_id])
            async for job_id in yielding(memory.job_ids)
            if job_id in states
        ]
        counts = Counter(job.state for job in jobs)
        state = combined_state(counts)
        if batch.reception is Reception.RECEIVING and state.is_terminal:
            state = JobState.RUNNING  # more jobs may come
        finished_at = memory.finished_at if state.is_terminal else None
        return BatchStatus(batch.record, batch.reception, jobs, counts, state, finished_at)

    async def _remembered(self, batch: Batch) -> _Memory:
        batch_id = batch.record.id
        memory = self._memories.get(batch_id)
        if memory is None or not memory.is_of(batch):
            memory = _Memory(batch.items, batch.reopens, await batch.job_ids())
            self._memories[batch_id] = memory
        self._memories.move_to_end(batch_id)
        while (
            len(self._memories) > 1
            and sum(len(known.job_ids) for known in self._memories.values()) > _MAX_REMEMBERED
        ):
            self._memories.popitem(last=False)
        return memory

    async def _learn(self, memory: _Memory, job_ids: Sequence[str]) -> None:
        """Read the records of jobs that have not been read yet, or were not there."""
        shared: dict[_Kind, _Kind] = {}
        for chunk in _chunks(job_ids):
            async with bounded(self._timeout_seconds):
                records = await self._redis.mget(map(record_key, chunk))
            async for job_id, record in yielding(zip(chunk, records, strict=True)):
                if record is not None:
                    kind = _kind(from_json(record))
                    memory.kinds[job_id] = shared.setdefault(kind, kind)

    async def _read_open(self, memory: _Memory, job_ids: Sequence[str]) -> dict[str, JobState]:
        """Return the states of jobs that had not ended; remember of which they have."""
        async with bounded(self._timeout_seconds):
            raw = iter(await self._redis.mget([k for job in job_ids for k in _keys(memory, job)]))
        now = datetime.now(UTC)
        states = {}
        begun = []
        for job_id in job_ids:
            kind = memory.kinds[job_id]
            end, *others = [next(raw) for _ in _keys(memory, job_id)]
            if end is None and not any(others):
                is_late = kind.run_at is not None and kind.run_at > now
                states[job_id] = JobState.SCHEDULED if is_late else JobState.QUEUED
            elif not memory.reopens and (ended := _end(end)):
                memory.end(job_id, *ended)
            else:
                begun.append(job_id)
        async for snapshot in self._store.snapshots(begun):
            job_id, status = snapshot.record.id, snapshot.status
            if status.state.is_terminal:
                memory.end(job_id, status.state, status.finished_at)
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
    begun = any(state.is_terminal for state in present)
    return JobState.RUNNING if begun else state


def _kind(record: Mapping[str, Any]) -> _Kind:
    run_at = record["run_at"]
    return _Kind(
        record["task"],
        datetime.fromisoformat(run_at) if run_at else None,
        tuple(stage["id"] for stage in record["stages"][:-1]),
    )


def _keys(memory: _Memory, job_id: str) -> list[str]:
    """Return the keys that say what became of a job, that of its end first."""
    earlier = memory.kinds[job_id].earlier
    return [
        meta_key(job_id),
        running_key(job_id),
        *(key for task_id in earlier for key in (meta_key(task_id), running_key(task_id))),
    ]


def _end(raw: bytes | str | None) -> tuple[JobState, datetime | None] | None:
    """Return how and when a job ended that was never reopened."""
    meta = Meta.model_validate_json(raw) if raw else None
    return (meta.end_state, meta.date_done) if meta and meta.end_state else None


def _chunks(job_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (job_ids[start : start + _CHUNK] for start in range(0, len(job_ids), _CHUNK))
