"""Waiting for a job without polling, and submitting one whose end is waited for."""

import asyncio
import uuid
from dataclasses import replace
from typing import NamedTuple

from api.concurrency import wait_for_event
from api.errors.types import ResultsUnavailable
from api.jobs.keyed_submission import Accepted
from api.jobs.submission import Submission, Submitter
from api.store.changes import StateChanges
from api.store.jobs import JobSnapshot, JobStore
from contracts.records import stage_ids


class WaitOutcome(NamedTuple):
    """A job that was accepted, and what it had come to when the waiting was over."""

    accepted: Accepted
    snapshot: JobSnapshot | None
    """None if Redis could not be asked: the job was accepted all the same."""


async def wait_for_change(
    store: JobStore, changes: StateChanges, job_id: str, seconds: float, *, until_terminal: bool
) -> JobSnapshot:
    """Return the job once it is terminal, has changed (unless `until_terminal`), or time is up.

    Raises:
        JobNotFound: it has no record.

    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    first = await store.snapshot(job_id)
    if first.status.state.is_terminal or seconds <= 0:
        return first
    async with changes.watch([stage.id for stage in first.record.stages]) as changed:
        while True:
            changed.clear()
            snapshot = await store.snapshot(job_id)
            differs = snapshot.status != first.status and not until_terminal
            if differs or snapshot.status.state.is_terminal:
                return snapshot
            if not await wait_for_event(changed, deadline - loop.time()):
                return snapshot


async def submit_and_wait(
    submitter: Submitter,
    store: JobStore,
    changes: StateChanges,
    submission: Submission,
    seconds: float,
) -> WaitOutcome:
    """Submit a job; return when it has ended, or when it has been waited for so many seconds.

    The subscription is made while the job is submitted, and what was announced before it is read
    while a worker has the job: what a job's end adds to the time that the job takes is one message
    and one reading.

    Raises:
        ApiError: the job was not accepted, as `Submitter.submit` says.

    """
    job_id = submission.identity.id if submission.identity else str(uuid.uuid4())
    submitting = asyncio.create_task(submitter.submit(replace(submission, job_id=job_id)))
    try:
        async with changes.watch(stage_ids(submission.spec, job_id), until_end=True) as ended:
            await submitting
            ended.set()  # maybe before anybody listened
            return WaitOutcome(submitting.result(), await _end_of(job_id, store, ended, seconds))
    except ResultsUnavailable:
        return WaitOutcome(await submitting, None)
    finally:
        submitting.cancel()


async def _end_of(
    job_id: str, store: JobStore, ended: asyncio.Event, seconds: float
) -> JobSnapshot:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        await wait_for_event(ended, deadline - loop.time())
        ended.clear()
        snapshot = await store.snapshot(job_id)
        if snapshot.status.state.is_terminal or loop.time() >= deadline:
            return snapshot
