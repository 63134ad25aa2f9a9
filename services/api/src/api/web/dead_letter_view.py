"""The dead letters as `/v1` shows them: one by one, by cause, and after a requeue or discard."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, Field

from api.dead_letters.canary import CanaryOutcome
from api.dead_letters.letter import DeadLetter
from api.dead_letters.queue import SCAN_LIMIT
from api.dead_letters.selection import KnownLetter
from api.errors.rendering import problem_body
from api.errors.types import ApiError
from contracts.records import AttemptError
from contracts.states import JobState

_EXAMPLES: Final = 3


class DeadLetterView(BaseModel):
    """One dead message. What is not known of it is null; foreign messages tell little."""

    id: str = Field(description="Names the letter, for requeue and discard.")
    job: str | None
    task: str | None
    queue: str | None = Field(description="Where it died.")
    reason: str = Field(description="RabbitMQ's word for how it died.")
    deaths: int = Field(description="How often it died there for this reason.")
    deliveries: int | None = Field(
        description="How often a worker got it; before RabbitMQ 4.3 known only at the limit."
    )
    died_at: datetime | None
    submitted_at: datetime | None
    requeues: int = Field(description="How often the job had been requeued before.")
    job_state: JobState | None = Field(description="null when the job has expired.")
    error: AttemptError | None = Field(description="Why the job failed, while it is known.")
    fingerprint: str = Field(description="Shared by letters that died of the same cause.")


class DeadLetterList(BaseModel):
    """Dead letters, newest first."""

    total: int = Field(description="Letters in the queue.")
    matching: int = Field(description="Letters that the parameters mean.")
    truncated: bool = Field(
        description=f"True when not all could be looked at: {SCAN_LIMIT:,} at a time."
    )
    dead_letters: list[DeadLetterView]


class DeadLetterGroup(BaseModel):
    """Letters that died of the same cause."""

    fingerprint: str
    task: str | None
    reason: str
    error: AttemptError | None = Field(description="That of the newest.")
    count: int
    first_died_at: datetime | None
    last_died_at: datetime | None
    examples: list[str] = Field(description="Ids of the newest.")


class DeadLetterGroups(BaseModel):
    """Dead letters by cause, the most frequent first."""

    total: int
    matching: int
    truncated: bool
    groups: list[DeadLetterGroup]


class RefusedLetter(BaseModel):
    """A letter that stays as it was, and why."""

    id: str
    problem: dict[str, Any]


class TakenLetter(BaseModel):
    """A letter that is not in the queue any more."""

    id: str
    job: str | None


class RequeueOutcome(BaseModel):
    """What became of the letters."""

    requeued: list[TakenLetter]
    refused: list[RefusedLetter]
    canary: CanaryOutcome | None = Field(
        description="What became of the jobs requeued first: `unfinished` if not known in time."
    )
    left: int = Field(description="Letters that were meant and are still there.")


class DiscardOutcome(BaseModel):
    """What became of the letters."""

    discarded: list[TakenLetter]
    refused: list[RefusedLetter]
    left: int = Field(description="Letters that were meant and are still there.")


def letter_view(known: KnownLetter) -> DeadLetterView:
    """Show a letter with what is known of its job."""
    letter = known.letter
    death = letter.death
    return DeadLetterView(
        id=letter.id,
        job=death.job_id,
        task=death.task,
        queue=death.queue,
        reason=death.reason,
        deaths=death.count,
        deliveries=death.deliveries,
        died_at=death.died_at,
        submitted_at=death.submitted_at,
        requeues=death.requeues,
        job_state=known.state,
        error=known.error,
        fingerprint=known.fingerprint,
    )


def letter_groups(newest_first: Sequence[KnownLetter]) -> list[DeadLetterGroup]:
    """Count letters by their cause, the most frequent first."""
    members: dict[str, list[KnownLetter]] = {}
    for known in newest_first:
        members.setdefault(known.fingerprint, []).append(known)
    groups = [_group(fingerprint, letters) for fingerprint, letters in members.items()]
    return sorted(groups, key=lambda group: group.count, reverse=True)


def _group(fingerprint: str, newest_first: Sequence[KnownLetter]) -> DeadLetterGroup:
    newest, oldest = newest_first[0], newest_first[-1]
    return DeadLetterGroup(
        fingerprint=fingerprint,
        task=newest.letter.death.task,
        reason=newest.letter.death.reason,
        error=newest.error,
        count=len(newest_first),
        first_died_at=oldest.letter.death.died_at,
        last_died_at=newest.letter.death.died_at,
        examples=[known.letter.id for known in newest_first[:_EXAMPLES]],
    )


def taken_letters(letters: Iterable[DeadLetter]) -> list[TakenLetter]:
    """Show the letters that left the queue."""
    return [TakenLetter(id=letter.id, job=letter.death.job_id) for letter in letters]


def refused_letters(refusals: Iterable[tuple[str, ApiError]]) -> list[RefusedLetter]:
    """Show the letters that stay, and why."""
    return [
        RefusedLetter(id=letter_id, problem=problem_body(error)) for letter_id, error in refusals
    ]
