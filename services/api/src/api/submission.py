"""Submitting a job: the record first, then the message, then the answer. Never the other way."""

import asyncio
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from api.errors import ApiError, OutcomeUnknown, ResultsUnavailable
from api.job_store import JobStore
from api.publisher import Publisher
from contracts.records import JobRecord, new_record
from contracts.schemas import Args
from contracts.tasks import TaskSpec

_AT_ONCE: Final = 500
"""Publishes of one batch that wait for their confirms at the same time."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client wants done, valid and allowed."""

    spec: TaskSpec[Any, Any]
    args: Args
    run_at: datetime | None = None


class Submitter:
    """Turns submissions into confirmed jobs."""

    def __init__(self, store: JobStore, publisher: Publisher, job_ttl_seconds: int) -> None:
        self._store = store
        self._publisher = publisher
        self._job_ttl_seconds = job_ttl_seconds

    async def submit(self, submission: Submission) -> JobRecord:
        """Accept one job; when this returns, the broker has it.

        Raises:
            BrokerUnavailable, LaneFull: nothing was queued and no record is left.
            OutcomeUnknown: the record is kept, and says later whether the job ran.
            ResultsUnavailable: nothing was queued.

        """
        record = self.record(submission)
        await self._store.create(record)
        await self._publish(record)
        return record

    async def submit_many(self, records: Sequence[JobRecord]) -> list[ApiError | None]:
        """Accept many jobs and return, for each, None or why it was not accepted."""
        await self._store.create_many(records)
        outcomes: list[ApiError | None] = []
        for start in range(0, len(records), _AT_ONCE):
            chunk = records[start : start + _AT_ONCE]
            outcomes += await asyncio.gather(*map(self._outcome, chunk))
        return outcomes

    def record(self, submission: Submission, batch: str | None = None) -> JobRecord:
        """Return the record of a new job."""
        return new_record(
            submission.spec,
            submission.args,
            job_id=str(uuid.uuid4()),
            ttl_seconds=self._job_ttl_seconds,
            run_at=submission.run_at,
            batch=batch,
        )

    async def _outcome(self, record: JobRecord) -> ApiError | None:
        try:
            await self._publish(record)
        except ApiError as exc:
            return exc
        return None

    async def _publish(self, record: JobRecord) -> None:
        try:
            await self._publisher.publish(record, record.submitted_at)
        except OutcomeUnknown:
            raise
        except ApiError:
            await self._take_back(record)
            raise

    async def _take_back(self, record: JobRecord) -> None:
        try:
            await self._store.delete([record.id])
        except ResultsUnavailable:
            logger.warning("record %s of an unpublished job stays until it expires", record.id)
