"""A job's changes as server-sent events, which a browser's EventSource follows by itself.

What a job went through is derived from its record and its attempts, so it has the same numbers for
whoever asks: a client that comes back with its `Last-Event-ID` misses nothing.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

from fastapi.sse import ServerSentEvent
from pydantic import BaseModel

from api.concurrency import wait_for_event
from api.store.changes import StateChanges
from api.store.jobs import JobSnapshot, JobStore
from api.web.job_view import job_view
from contracts.records import Attempt, AttemptError, Running
from contracts.states import JobState

_LOOK_AGAIN_SECONDS: Final = 30.0
"""A change that nobody announced, say because Redis was restarted, is seen after this."""


class Step(BaseModel):
    """A state that a job has come to."""

    state: JobState
    at: datetime | None
    task: str | None = None
    worker: str | None = None
    attempt: int | None = None
    error: AttemptError | None = None
    next_attempt_at: datetime | None = None


async def job_events(
    store: JobStore, changes: StateChanges, first: JobSnapshot, seen: int
) -> AsyncIterator[ServerSentEvent]:
    """Yield the events of a job from number `seen` on, as they come, until it has ended.

    Raises:
        ResultsUnavailable: Redis does not answer.

    """
    progress = None
    async with changes.watch([stage.id for stage in first.record.stages]) as changed:
        while True:
            changed.clear()
            snapshot = await store.snapshot(first.record.id)
            steps = steps_of(snapshot)
            for number in range(seen, len(steps)):
                yield ServerSentEvent(event="state", id=str(number), data=steps[number])
            seen = max(seen, len(steps))
            if snapshot.status.state.is_terminal:
                yield ServerSentEvent(event="end", data=job_view(snapshot))
                return
            if snapshot.status.progress not in {None, progress}:
                progress = snapshot.status.progress
                yield ServerSentEvent(event="progress", data=progress)
            await wait_for_event(changed, _LOOK_AGAIN_SECONDS)


def steps_of(snapshot: JobSnapshot) -> list[Step]:
    """Return the states that a job has gone through, in order; more are only ever appended."""
    record, status, attempts = snapshot.record, snapshot.status, snapshot.attempts
    is_late = record.run_at is not None and record.run_at > record.submitted_at
    begin = JobState.SCHEDULED if is_late else JobState.QUEUED
    steps = [Step(state=begin, at=record.submitted_at)]
    for attempt in attempts:
        steps += _steps_of(attempt)
    running = status.running
    if running and running.started_at not in {attempt.started_at for attempt in attempts}:
        steps.append(_step(running))
    if status.state.is_terminal:
        steps.append(Step(state=status.state, at=status.finished_at))
    return steps


def _steps_of(attempt: Attempt) -> list[Step]:
    running = _step(
        Running(
            task=attempt.task,
            worker=attempt.worker,
            started_at=attempt.started_at,
            attempt=attempt.number,
        )
    )
    if attempt.backoff_seconds is None:
        return [running]
    retrying = Step(
        state=JobState.RETRYING,
        at=attempt.ended_at,
        task=attempt.task,
        error=attempt.error,
        next_attempt_at=attempt.next_attempt_at,
    )
    return [running, retrying]


def _step(running: Running) -> Step:
    return Step(
        state=JobState.RUNNING,
        at=running.started_at,
        task=running.task,
        worker=running.worker,
        attempt=running.attempt,
    )
