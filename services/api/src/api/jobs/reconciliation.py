"""Finds out what became of jobs whose confirm did not come: they are queued, or they fail.

A job of which nobody knows whether the broker has it is published again until the broker confirms;
should it have both messages, workers run only the first. The marks in Redis outlive this process.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError

from api.broker.publisher import Publisher
from api.concurrency import stop_task
from api.errors.types import ApiError, JobNotFound, ResultsUnavailable
from api.store.jobs import JobStore
from contracts.records import FAILURE_STATE, JobRecord

_PAUSE_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class Settlement:
    """Works in the background, one pass a second while there is something to settle.

    A job that the broker does not take for `give_up_seconds` fails.
    """

    def __init__(self, store: JobStore, publisher: Publisher, give_up_seconds: float) -> None:
        self._store = store
        self._publisher = publisher
        self._give_up = timedelta(seconds=give_up_seconds)
        self._unsettled: set[str] = set()
        self._unwithdrawn: set[str] = set()
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with what an earlier process left behind."""
        self._worker = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; the marks stay."""
        if self._worker:
            await stop_task(self._worker)

    async def take(self, records: Sequence[JobRecord]) -> None:
        """Take over jobs whose outcome is unknown.

        Raises:
            ResultsUnavailable: they are known here, but would be forgotten with this process.

        """
        self._unsettled |= {record.id for record in records}
        self._wake.set()
        await self._store.mark_unconfirmed(records)

    def withdraw_later(self, records: Sequence[JobRecord]) -> None:
        """Delete the records of jobs that were refused, once Redis is there again.

        Not those with a key: the client may be submitting them again already.
        """
        self._unwithdrawn |= {record.id for record in records if record.fingerprint is None}
        self._wake.set()

    async def _run(self) -> None:
        await self._load()
        while True:
            await self._wake.wait()
            try:
                await self._withdraw()
                await self._settle_all()
            except Exception as exc:  # noqa: BLE001 - whatever it is, jobs wait to be settled
                logger.warning("%d jobs to settle: %s", len(self._unsettled), exc)
            if not self._unsettled and not self._unwithdrawn:
                self._wake.clear()
                continue
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _load(self) -> None:
        while True:
            try:
                self._unsettled |= set(await self._store.unconfirmed_ids())
            except ResultsUnavailable:
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                break
        if self._unsettled:
            self._wake.set()

    async def _withdraw(self) -> None:
        ids = list(self._unwithdrawn)
        if ids:
            await self._store.delete(ids)
            self._unwithdrawn.difference_update(ids)

    async def _settle_all(self) -> None:
        for job_id in list(self._unsettled):
            try:
                with suppress(JobNotFound):  # it has expired
                    await self._settle(job_id)
                await self._store.clear_unconfirmed(job_id)
            except (
                ValidationError
            ):  # its record can't be read: that must not keep the others waiting
                logger.exception("job %s can't be settled: the next process will try again", job_id)
            self._unsettled.discard(job_id)

    async def _settle(self, job_id: str) -> None:
        """Return when the job is queued, has begun, or has failed.

        Raises:
            ApiError: not yet.

        """
        snapshot = await self._store.snapshot(job_id)
        record = snapshot.record
        if snapshot.status.state.has_begun:
            return
        try:
            deadline = self._publisher.deadline()
            await self._publisher.ready(deadline)
            await self._publisher.publish(record, deadline)
        except ApiError as exc:
            if datetime.now(UTC) - record.submitted_at < self._give_up:
                raise
            seconds = self._give_up.total_seconds()
            reason = f"RabbitMQ did not take it for {seconds:.0f} s: {exc.detail} Submit it again."
            await self._store.end(record, FAILURE_STATE, "Unconfirmed", reason)
            logger.warning("job %s failed: %s", job_id, reason)
        else:
            logger.info("job %s is queued after all", job_id)
