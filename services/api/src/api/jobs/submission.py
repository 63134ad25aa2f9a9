"""Submitting a job: the record first, then the message, then the answer. Never the other way."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.jobs.group_commit import GroupCommit
from api.jobs.keyed_submission import Accepted, Identity, KeyedSubmitter
from contracts.records import JobRecord, new_record
from twinlane_sdk.task_spec import Args, TaskSpec


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client wants done, valid and allowed."""

    spec: TaskSpec[Any, Any]
    args: Args
    run_at: datetime | None = None
    identity: Identity | None = None
    job_id: str | None = None
    """The id that the job is to have, unless its identity gives it one."""

    def new_record(self, ttl_seconds: int) -> JobRecord:
        """Return the record of a new job."""
        own_id = self.job_id or str(uuid.uuid4())
        return new_record(
            self.spec,
            self.args,
            job_id=self.identity.id if self.identity else own_id,
            ttl_seconds=ttl_seconds,
            run_at=self.run_at,
            fingerprint=self.identity.fingerprint if self.identity else None,
        )


class Submitter:
    """Turns submissions into confirmed jobs, which are known for `job_ttl_seconds`."""

    def __init__(self, commits: GroupCommit, keyed: KeyedSubmitter, job_ttl_seconds: int) -> None:
        self._commits = commits
        self._keyed = keyed
        self._job_ttl_seconds = job_ttl_seconds

    async def submit(self, submission: Submission) -> Accepted:
        """Accept one job; when this returns, the broker has it.

        Raises:
            Overloaded, BrokerUnavailable, LaneFull: nothing was queued and no record is left.
            OutcomeUnknown: the record is kept, and the job runs or fails later.
            ResultsUnavailable: nothing was queued.
            IdempotencyKeyReused: its key stands for another submission.

        """
        record = submission.new_record(self._job_ttl_seconds)
        if submission.identity:
            return await self._keyed.submit(record, submission.identity)
        await self._commits.submit(record)
        return Accepted(record, replayed=False)
