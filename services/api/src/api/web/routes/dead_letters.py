"""The dead letters: what the broker or a worker gave up, to be looked at, requeued, discarded."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from api.components import Uses
from api.dead_letters.letter import DeadLetter
from api.dead_letters.queue import SCAN_LIMIT
from api.dead_letters.requeue import CanaryOutcome, Criteria, KnownLetter, describe
from api.errors.openapi import responses
from api.errors.rendering import problem_body
from api.errors.types import (
    ApiError,
    BodyTooLarge,
    BrokerUnavailable,
    DeadLetterNotFound,
    DeadLettersBusy,
    LaneFull,
    MalformedBody,
    RequeueOutcomeUnknown,
    ResultsUnavailable,
)
from contracts.records import AttemptError, JobState

MAX_LISTED: Final = 1_000
_EXAMPLES: Final = 3
_CHANGE_ERRORS: Final = (
    MalformedBody,
    BodyTooLarge,
    DeadLetterNotFound,
    DeadLettersBusy,
    BrokerUnavailable,
    ResultsUnavailable,
)

Word = Annotated[str, Field(min_length=1, max_length=200)]
Limit = Annotated[int, Query(ge=1, le=MAX_LISTED, description="How many to list, newest first.")]
Group = Annotated[
    Literal["fingerprint"] | None, Query(description="Count letters of the same cause instead.")
]


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


class LetterFilter(BaseModel):
    """Which letters are meant: those that fulfil all of it."""

    model_config = ConfigDict(extra="forbid")

    task: Word | None = None
    reason: Word | None = None
    fingerprint: Word | None = None
    died_after: AwareDatetime | None = None
    died_before: AwareDatetime | None = None

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("must not be empty: it would mean every letter")
        return self


class Selection(BaseModel):
    """Letters, by id or by a filter."""

    model_config = ConfigDict(extra="forbid")

    ids: list[Word] | None = Field(None, min_length=1, max_length=SCAN_LIMIT)
    filter: LetterFilter | None = None
    limit: int = Field(
        1_000, ge=1, le=SCAN_LIMIT, description="At most so many, the oldest deaths first."
    )

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("give either ids or a filter")
        return self

    def criteria(self) -> Criteria:
        """Return what is meant."""
        if self.filter:
            return Criteria(**dict(self.filter))
        return Criteria(ids=frozenset(self.ids or ()))


class RequeueRequest(Selection):
    """Letters whose jobs are to run again."""

    canary: int | None = Field(
        None,
        ge=1,
        le=100,
        description="Requeue so many first, and the others only if all of these succeed.",
    )


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


def create_router() -> APIRouter:
    """Return the routes below /v1/dead-letters."""
    router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])
    router.add_api_route(
        "",
        list_dead_letters,
        methods=["GET"],
        summary="List the dead letters",
        response_model=DeadLetterList | DeadLetterGroups,
        responses=responses(DeadLettersBusy, BrokerUnavailable, ResultsUnavailable),
    )
    router.add_api_route(
        "/requeue",
        requeue,
        methods=["POST"],
        status_code=202,
        summary="Run the jobs of dead letters again",
        response_model=RequeueOutcome,
        responses=responses(*_CHANGE_ERRORS, LaneFull, RequeueOutcomeUnknown),
    )
    router.add_api_route(
        "/discard",
        discard,
        methods=["POST"],
        status_code=202,
        summary="Delete dead letters",
        response_model=DiscardOutcome,
        responses=responses(*_CHANGE_ERRORS),
    )
    return router


async def wanted(
    *,
    task: Annotated[str | None, Query(description="Only letters of this task.")] = None,
    reason: Annotated[
        str | None, Query(description="Only letters that died so: `rejected`, `delivery_limit`…")
    ] = None,
    fingerprint: Annotated[
        str | None, Query(description="Only letters that died of this cause.")
    ] = None,
    died_after: Annotated[AwareDatetime | None, Query(description="Only later deaths.")] = None,
    died_before: Annotated[AwareDatetime | None, Query(description="Only earlier deaths.")] = None,
) -> Criteria:
    """Read which letters are wanted: those that fulfil all of it."""
    return Criteria(
        task=task,
        reason=reason,
        fingerprint=fingerprint,
        died_after=died_after,
        died_before=died_before,
    )


async def list_dead_letters(
    components: Uses,
    criteria: Annotated[Criteria, Depends(wanted)],
    limit: Limit = 100,
    group: Group = None,
) -> DeadLetterList | DeadLetterGroups:
    """Return what died and why; looking changes nothing and shortens no letter's life."""
    async with components.dead_letters.reading() as reading:
        letters, total = reading.letters, reading.total
    known = await describe(components.store, letters)
    chosen = (await criteria.select(known))[::-1]
    truncated = len(letters) < total
    if group:
        groups = await asyncio.to_thread(_groups, chosen)
        return DeadLetterGroups(
            total=total, matching=len(chosen), truncated=truncated, groups=groups[:limit]
        )
    return DeadLetterList(
        total=total,
        matching=len(chosen),
        truncated=truncated,
        dead_letters=[_view(known) for known in chosen[:limit]],
    )


async def requeue(components: Uses, request: RequeueRequest) -> RequeueOutcome:
    """Send messages to their lane again; the job's earlier attempts stay visible.

    A letter is deleted only after the broker has confirmed its message. Refused are letters whose
    job is not failed or has expired, and messages that no worker could read.
    """
    outcome = await components.requeuer.requeue(request.criteria(), request.limit, request.canary)
    return RequeueOutcome(
        requeued=_taken(outcome.requeued),
        refused=_refused(outcome.refused),
        canary=outcome.canary,
        left=outcome.left,
    )


async def discard(components: Uses, request: Selection) -> DiscardOutcome:
    """Delete messages for good; what is known of their jobs stays."""
    outcome = await components.requeuer.discard(request.criteria(), request.limit)
    return DiscardOutcome(
        discarded=_taken(outcome.discarded),
        refused=_refused(outcome.refused),
        left=outcome.left,
    )


def _view(known: KnownLetter) -> DeadLetterView:
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


def _groups(newest_first: Sequence[KnownLetter]) -> list[DeadLetterGroup]:
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


def _taken(letters: Iterable[DeadLetter]) -> list[TakenLetter]:
    return [TakenLetter(id=letter.id, job=letter.death.job_id) for letter in letters]


def _refused(refusals: Iterable[tuple[str, ApiError]]) -> list[RefusedLetter]:
    return [
        RefusedLetter(id=letter_id, problem=problem_body(error)) for letter_id, error in refusals
    ]
