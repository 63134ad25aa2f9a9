"""Submitting a job and waiting for its end, with as little between the two as there can be."""

import asyncio
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from api.errors.types import ResultsUnavailable
from api.jobs.submission import Accepted, Submission, Submitter
from api.store.changes import StateChanges
from api.store.jobs import JobSnapshot, JobStore
from contracts.records import stage_ids


class Awaited(NamedTuple):
    """A job that was accepted, and what it had come to when the waiting was over."""

    accepted: Accepted
    snapshot: JobSnapshot | None
    """None if Redis could not be asked: the job was accepted all the same."""


async def submit_and_wait(
    submitter: Submitter,
    store: JobStore,
    changes: StateChanges,
    submission: Submission,
    seconds: float,
) -> Awaited:
    """Submit a job; return when it has ended, or when it has been waited for so long.

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
            return Awaited(submitting.result(), await _end_of(job_id, store, ended, seconds))
    except ResultsUnavailable:
        return Awaited(await submitting, None)
    finally:
        submitting.cancel()


async def _end_of(
    job_id: str, store: JobStore, ended: asyncio.Event, seconds: float
) -> JobSnapshot:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await ended.wait()
        ended.clear()
        snapshot = await store.snapshot(job_id)
        if snapshot.status.state.is_terminal or loop.time() >= deadline:
            return snapshot
