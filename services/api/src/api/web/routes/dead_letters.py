"""The dead letters: what the broker or a worker gave up, to be looked at, requeued, discarded."""

import asyncio
from typing import Annotated, Final, Literal, Self

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from api.auth.api_keys import Scope
from api.auth.scopes import needs
from api.components import Uses
from api.dead_letters.queue import SCAN_LIMIT
from api.dead_letters.selection import Criteria, describe
from api.errors.openapi import BODY_ERRORS, responses
from api.errors.types import (
    BrokerUnavailable,
    DeadLetterNotFound,
    DeadLettersBusy,
    LaneFull,
    RequeueOutcomeUnknown,
    ResultsUnavailable,
)
from api.web.dead_letter_view import (
    DeadLetterGroups,
    DeadLetterList,
    DiscardOutcome,
    RequeueOutcome,
    letter_groups,
    letter_view,
    refused_letters,
    taken_letters,
)

MAX_LISTED: Final = 1_000
_CHANGE_ERRORS: Final = (
    *BODY_ERRORS,
    DeadLetterNotFound,
    DeadLettersBusy,
    BrokerUnavailable,
    ResultsUnavailable,
)

ShortText = Annotated[str, Field(min_length=1, max_length=200)]
Limit = Annotated[int, Query(ge=1, le=MAX_LISTED, description="How many to list, newest first.")]
Group = Annotated[
    Literal["fingerprint"] | None, Query(description="Count letters of the same cause instead.")
]

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])


class LetterFilter(BaseModel):
    """Which letters are meant: those that fulfil all of it."""

    model_config = ConfigDict(extra="forbid")

    task: ShortText | None = None
    reason: ShortText | None = None
    fingerprint: ShortText | None = None
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

    ids: list[ShortText] | None = Field(None, min_length=1, max_length=SCAN_LIMIT)
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


@router.get(
    "",
    summary="List the dead letters",
    responses=responses(DeadLettersBusy, BrokerUnavailable, ResultsUnavailable),
)
@needs(Scope.READ)
async def list_dead_letters(
    components: Uses,
    criteria: Annotated[Criteria, Depends(wanted)],
    limit: Limit = 100,
    group: Group = None,
) -> DeadLetterList | DeadLetterGroups:
    """Return what died and why; looking changes nothing and shortens no letter's life."""
    async with components.dead_letters.hold() as hold:
        letters, total = hold.letters, hold.total
    known = await describe(components.store, letters)
    chosen = (await criteria.select(known))[::-1]
    truncated = len(letters) < total
    if group:
        groups = await asyncio.to_thread(letter_groups, chosen)
        return DeadLetterGroups(
            total=total, matching=len(chosen), truncated=truncated, groups=groups[:limit]
        )
    return DeadLetterList(
        total=total,
        matching=len(chosen),
        truncated=truncated,
        dead_letters=[letter_view(known) for known in chosen[:limit]],
    )


@router.post(
    "/requeue",
    status_code=202,
    summary="Run the jobs of dead letters again",
    responses=responses(*_CHANGE_ERRORS, LaneFull, RequeueOutcomeUnknown),
)
@needs(Scope.ADMIN)
async def requeue(components: Uses, request: RequeueRequest) -> RequeueOutcome:
    """Send messages to their lane again; the job's earlier attempts stay visible.

    A letter is deleted only after the broker has confirmed its message. Refused are letters whose
    job is not failed or has expired, and messages that no worker could read.
    """
    outcome = await components.requeuer.requeue(request.criteria(), request.limit, request.canary)
    return RequeueOutcome(
        requeued=taken_letters(outcome.requeued),
        refused=refused_letters(outcome.refused),
        canary=outcome.canary,
        left=outcome.left,
    )


@router.post(
    "/discard",
    status_code=202,
    summary="Delete dead letters",
    responses=responses(*_CHANGE_ERRORS),
)
@needs(Scope.ADMIN)
async def discard(components: Uses, request: Selection) -> DiscardOutcome:
    """Delete messages for good; what is known of their jobs stays."""
    outcome = await components.requeuer.discard(request.criteria(), request.limit)
    return DiscardOutcome(
        discarded=taken_letters(outcome.discarded),
        refused=refused_letters(outcome.refused),
        left=outcome.left,
    )
