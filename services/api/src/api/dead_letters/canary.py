"""The canary of a requeue: the jobs that are requeued first, to see whether they succeed now."""

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from api.dead_letters.letter import DeadLetter
from api.errors.types import ApiError
from api.jobs.waiting import wait_for_change
from api.store.changes import StateChanges
from api.store.jobs import JobStore
from contracts.states import JobState

CANARY_SECONDS: Final = 30.0
"""How long a request waits for the jobs to end."""


class CanaryOutcome(StrEnum):
    """What became of the jobs that were requeued first."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNFINISHED = "unfinished"


async def watch_canary(
    store: JobStore, changes: StateChanges, letters: Sequence[DeadLetter]
) -> CanaryOutcome:
    """Wait until the letters' jobs have ended, for CANARY_SECONDS at most; return how they did."""
    job_ids = [letter.death.job_id for letter in letters if letter.death.job_id]
    states = set(await asyncio.gather(*(_state(store, changes, job_id) for job_id in job_ids)))
    if states & {JobState.FAILED, JobState.CANCELLED}:
        return CanaryOutcome.FAILED
    if states == {JobState.SUCCEEDED}:
        return CanaryOutcome.SUCCEEDED
    return CanaryOutcome.UNFINISHED


async def _state(store: JobStore, changes: StateChanges, job_id: str) -> JobState | None:
    """Return a job's state once it has ended, or when time is up; None if it can't be read."""
    try:
        snapshot = await wait_for_change(
            store, changes, job_id, CANARY_SECONDS, until_terminal=True
        )
    except ApiError:
        return None
    return snapshot.status.state
