"""What a process remembers of batches, so that it need not read ten thousand jobs each time.

The end of a job is final, so it is remembered, and only what has not ended is read. Only taking a
job out of the dead letters reopens it; whoever does so counts it at its batch (`reopens_key`), and
a batch with another number there than is remembered is read anew.
"""

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple, Self

from api.batches.store import Batch
from contracts.states import JobState

_MAX_JOBS: Final = 100_000
"""Jobs that are remembered, of the batches that were asked for last: some 30 MB at most."""
_MAX_AGE_SECONDS: Final = 60.0
"""After so long a batch is read anew, because records go without notice: those of some jobs expire
before those of others, and those of jobs that were refused may be taken back late."""


class JobShape(NamedTuple):
    """What matters of a job's record; most jobs of a batch share one."""

    task: str
    run_at: datetime | None
    earlier_stages: tuple[str, ...]
    """The ids of the stages before the last, which has the job's id."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Return the shape of a job by its record, as Redis has it: validating takes too long."""
        run_at = record["run_at"]
        return cls(
            record["task"],
            datetime.fromisoformat(run_at) if run_at else None,
            tuple(stage["id"] for stage in record["stages"][:-1]),
        )

    def waiting_state(self, now: datetime) -> JobState:
        """Return the state of a job that has not begun."""
        is_early = self.run_at is not None and self.run_at > now
        return JobState.SCHEDULED if is_early else JobState.QUEUED


@dataclass(slots=True)
class CachedBatch:
    """What this process knows of one batch."""

    items: bytes
    reopens: int
    job_ids: list[str]
    read_at: float = field(default_factory=time.monotonic)
    """When it was read first, by the monotonic clock."""
    shapes: dict[str, JobShape] = field(default_factory=dict)
    """Of the jobs that have a record."""
    ends: dict[str, JobState] = field(default_factory=dict)
    finished_at: datetime | None = None

    def is_current(self, batch: Batch) -> bool:
        """Return whether what is remembered holds for the batch as it is now."""
        is_young = time.monotonic() - self.read_at < _MAX_AGE_SECONDS
        return is_young and (self.items, self.reopens) == (batch.items, batch.reopens)

    def end(self, job_id: str, state: JobState, at: datetime | None) -> None:
        """Remember that a job has ended."""
        self.ends[job_id] = state
        if at and (self.finished_at is None or at > self.finished_at):
            self.finished_at = at


class BatchCache:
    """Keeps the batches that were asked for last."""

    def __init__(self, max_jobs: int = _MAX_JOBS) -> None:
        self._max_jobs = max_jobs
        self._batches: OrderedDict[str, CachedBatch] = OrderedDict()

    async def get(self, batch: Batch) -> CachedBatch:
        """Return what is remembered of a batch, which is nothing yet if it has changed since."""
        batch_id = batch.record.id
        cached = self._batches.get(batch_id)
        if cached is None or not cached.is_current(batch):
            cached = CachedBatch(batch.items, batch.reopens, await batch.job_ids())
            self._batches[batch_id] = cached
        self._batches.move_to_end(batch_id)
        self._shrink()
        return cached

    def _shrink(self) -> None:
        jobs = sum(len(cached.job_ids) for cached in self._batches.values())
        while jobs > self._max_jobs and len(self._batches) > 1:
            _, dropped = self._batches.popitem(last=False)
            jobs -= len(dropped.job_ids)
