"""Which dead letters are meant, and what becomes of them: another life, or none."""

import asyncio
import hashlib
import logging
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from api.broker.connection import LOST_CONNECTION
from api.dead_letters.job_updates import JobLives
from api.dead_letters.letter import DeadLetter
from api.dead_letters.message import Revival, revive
from api.dead_letters.queue import DeadLetterQueue, Reading
from api.errors.types import (
    ApiError,
    DeadLetterNotFound,
    DeadLetterNotRequeueable,
    JobNotFound,
    ResultsUnavailable,
)
from api.jobs.waiting import wait_for_change
from api.store.changes import StateChanges
from api.store.jobs import JobSnapshot, JobStore
from contracts.records import AttemptError, JobState

CANARY_SECONDS: Final = 30.0
_AT_ONCE: Final = 500
"""Publishes that wait for their confirms at the same time."""
_REOPENED_AT_ONCE: Final = 40
"""Each takes a connection to Redis."""

_VARYING: Final = (
    (re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE), "<id>"),
    (re.compile(r"'[^']*'|\"[^\"]*\""), "<text>"),
    (re.compile(r"\b(?:0x[0-9a-f]+|(?=[0-9a-f]*\d)[0-9a-f]{8,})\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"\d+"), "<n>"),
)


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KnownLetter:
    """A dead letter with what Redis knows of its job; nothing, once that has expired."""

    letter: DeadLetter
    state: JobState | None = None
    error: AttemptError | None = None
    requeues: int = 0

    @property
    def fingerprint(self) -> str:
        """Return what letters have in common that died of the same cause."""
        error = self.error
        cause = f"{error.type}: {error.message}" if error else self.letter.death.reason
        for pattern, placeholder in _VARYING:
            cause = pattern.sub(placeholder, cause)
        return hashlib.sha256(f"{self.letter.death.task}\n{cause}".encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Criteria:
    """What letters are meant; None means any."""

    ids: AbstractSet[str] | None = None
    task: str | None = None
    reason: str | None = None
    fingerprint: str | None = None
    died_after: datetime | None = None
    died_before: datetime | None = None

    async def select(self, letters: Sequence[KnownLetter]) -> list[KnownLetter]:
        """Return the letters that are meant, oldest death first."""
        # In a thread: the fingerprints of ten thousand letters keep the processor busy for long.
        chosen = await asyncio.to_thread(lambda: list(filter(self._means, letters)))
        return sorted(chosen, key=lambda known: _died(known.letter))

    def _means(self, known: KnownLetter) -> bool:
        letter = known.letter
        return (
            (self.ids is None or letter.id in self.ids)
            and self.task in {None, letter.death.task}
            and self.reason in {None, letter.death.reason}
            and (self.died_after is None or _died(letter) > self.died_after.timestamp())
            and (self.died_before is None or 0 < _died(letter) < self.died_before.timestamp())
            and self.fingerprint in {None, known.fingerprint}
        )


class CanaryOutcome(StrEnum):
    """What became of the jobs that were requeued first."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNFINISHED = "unfinished"


@dataclass(slots=True)
class Requeued:
    """What became of the letters that were meant."""

    requeued: list[DeadLetter] = field(default_factory=list)
    refused: list[tuple[str, ApiError]] = field(default_factory=list)
    canary: CanaryOutcome | None = None
    left: int = 0
    """Letters that were meant and are still there: beyond the limit, or behind a canary."""


@dataclass(frozen=True, slots=True)
class Discarded:
    """What became of the letters that were meant."""

    discarded: list[DeadLetter]
    refused: list[tuple[str, ApiError]]
    left: int


async def describe(store: JobStore, letters: Sequence[DeadLetter]) -> list[KnownLetter]:
    """Read what is known of the letters' jobs.

    Raises:
        ResultsUnavailable: Redis does not answer.

    """
    job_ids = list({letter.death.job_id for letter in letters if letter.death.job_id})
    snapshots = {snapshot.record.id: snapshot async for snapshot in store.snapshots(job_ids)}
    return [_known(letter, snapshots.get(letter.death.job_id or "")) for letter in letters]


def _known(letter: DeadLetter, snapshot: JobSnapshot | None) -> KnownLetter:
    if snapshot is None:
        return KnownLetter(letter)
    failure = snapshot.status.failure
    error = failure and AttemptError(type=failure.error_type, message=failure.detail)
    return KnownLetter(letter, snapshot.status.state, error or None, snapshot.requeues)


def _died(letter: DeadLetter) -> float:
    return letter.death.died_at.timestamp() if letter.death.died_at else 0.0


class Requeuer:
    """Takes letters out of the queue: to run their jobs again, or for good."""

    def __init__(
        self, queue: DeadLetterQueue, store: JobStore, changes: StateChanges, lives: JobLives
    ) -> None:
        self._queue = queue
        self._store = store
        self._changes = changes
        self._lives = lives

    async def requeue(self, criteria: Criteria, limit: int, canary: int | None) -> Requeued:
        """Run the jobs of dead letters again; with a canary, the rest only if the first succeed.

        Raises:
            DeadLetterNotFound: none of the ids is there.
            ApiError: why no letter at all could be sent.

        """
        outcome = Requeued()
        rest = await self._requeue(criteria, limit, canary, outcome)
        if canary and outcome.requeued:
            outcome.canary = await self._watch(outcome.requeued)
            if rest and outcome.canary is CanaryOutcome.SUCCEEDED:
                try:
                    the_rest = Criteria(ids=frozenset(rest))
                    rest = await self._requeue(the_rest, len(rest), None, outcome)
                except ApiError as exc:
                    outcome.refused += [(letter_id, exc) for letter_id in rest]
                    rest = []
        outcome.left += len(rest)
        return outcome

    async def discard(self, criteria: Criteria, limit: int) -> Discarded:
        """Delete dead letters for good.

        Raises:
            DeadLetterNotFound: none of the ids is there.

        """
        async with self._queue.reading() as reading:
            known = (
                await describe(self._store, reading.letters)
                if criteria.fingerprint
                else [KnownLetter(letter) for letter in reading.letters]
            )
            chosen = await criteria.select(known)
            missing = _missing(chosen, criteria)
            letters = [known.letter for known in chosen[:limit]]
            for letter in letters:
                await reading.remove(letter)
        return Discarded(letters, missing, len(chosen) - len(letters))

    async def _requeue(
        self, criteria: Criteria, limit: int, first: int | None, outcome: Requeued
    ) -> list[str]:
        """Send the first letters that are meant; return the ids of those to come after them."""
        async with self._queue.reading() as reading:
            known = await describe(self._store, reading.letters)
            chosen = await criteria.select(known)
            outcome.refused += _missing(chosen, criteria)
            outcome.left += len(chosen[limit:])
            revivals = self._revive(chosen[:limit], outcome)
            rest = revivals[first:] if first else []
            await self._send(reading, revivals[:first], outcome)
        return [revival.letter.id for revival in rest]

    def _revive(self, chosen: Sequence[KnownLetter], outcome: Requeued) -> list[Revival]:
        revivals: dict[str, Revival] = {}
        for known in chosen:
            try:
                job_id = _failed_job(known)
                if job_id in revivals:
                    raise DeadLetterNotRequeueable(f"Another letter of job {job_id} is requeued.")
                before = max(known.requeues, known.letter.death.requeues)
                revivals[job_id] = revive(known.letter, job_id, before + 1)
            except ApiError as exc:
                outcome.refused.append((known.letter.id, exc))
        return list(revivals.values())

    async def _send(self, reading: Reading, revivals: Sequence[Revival], outcome: Requeued) -> None:
        """Publish, and only then reopen the job and delete the letter.

        A crash in between leaves both: the job runs, and its letter can't be requeued again
        because the job has not failed.
        """
        for start in range(0, len(revivals), _AT_ONCE):
            chunk = revivals[start : start + _AT_ONCE]
            errors = await self._publish(reading, chunk)
            sent = [revival for revival, error in zip(chunk, errors, strict=True) if not error]
            if not sent and not outcome.requeued:
                raise next(error for error in errors if error)
            outcome.refused += [
                (revival.letter.id, error)
                for revival, error in zip(chunk, errors, strict=True)
                if error
            ]
            outcome.requeued += [revival.letter for revival in sent]
            await self._reopen(sent)
            with suppress(*LOST_CONNECTION):
                await asyncio.gather(*(reading.remove(revival.letter) for revival in sent))

    async def _publish(
        self, reading: Reading, revivals: Sequence[Revival]
    ) -> list[ApiError | None]:
        async def publish(revival: Revival) -> ApiError | None:
            try:
                await reading.publish(revival)
            except ApiError as exc:
                return exc
            return None

        try:
            # Before, so that no job runs of which nothing is known any more.
            await self._lives.prepare([revival.job_id for revival in revivals])
        except ResultsUnavailable as exc:
            return [exc] * len(revivals)
        return await asyncio.gather(*map(publish, revivals))

    async def _reopen(self, revivals: Sequence[Revival]) -> None:
        for start in range(0, len(revivals), _REOPENED_AT_ONCE):
            chunk = revivals[start : start + _REOPENED_AT_ONCE]
            outcomes = await asyncio.gather(*map(self._lives.reopen, chunk), return_exceptions=True)
            for revival, outcome in zip(chunk, outcomes, strict=True):
                if outcome:  # then the worker that begins it will do it
                    logger.warning("job %s is reopened when it runs: %s", revival.job_id, outcome)

    async def _watch(self, letters: Sequence[DeadLetter]) -> CanaryOutcome:
        """Wait, for a while, until the letters' jobs have ended."""

        async def end_of(job_id: str) -> JobState | None:
            try:
                snapshot = await wait_for_change(
                    self._store, self._changes, job_id, CANARY_SECONDS, until_terminal=True
                )
            except ApiError:
                return None
            return snapshot.status.state

        job_ids = [letter.death.job_id for letter in letters if letter.death.job_id]
        ends = set(await asyncio.gather(*map(end_of, job_ids)))
        if ends & {JobState.FAILED, JobState.CANCELLED}:
            return CanaryOutcome.FAILED
        if ends == {JobState.SUCCEEDED}:
            return CanaryOutcome.SUCCEEDED
        return CanaryOutcome.UNFINISHED


def _missing(chosen: Sequence[KnownLetter], criteria: Criteria) -> list[tuple[str, ApiError]]:
    """Return the ids that were asked for and are not there.

    Raises:
        DeadLetterNotFound: none is.

    """
    wanted = criteria.ids or ()
    found = {known.letter.id for known in chosen}
    missing = [letter_id for letter_id in wanted if letter_id not in found]
    if missing and not found:
        raise DeadLetterNotFound(f"No dead letter {missing[0]!r} is there, nor another of the ids.")
    return [
        (letter_id, DeadLetterNotFound(f"No dead letter {letter_id!r} is there."))
        for letter_id in missing
    ]


def _failed_job(known: KnownLetter) -> str:
    """Return the id of a letter's job if it may run again.

    Raises:
        JobNotFound, DeadLetterNotRequeueable: it may not.

    """
    job_id = known.letter.death.job_id
    if job_id is None:
        raise DeadLetterNotRequeueable("Its message names no job.")
    if known.state is None:
        raise JobNotFound(job_id)
    if known.state is not JobState.FAILED:
        raise DeadLetterNotRequeueable(
            f"Job {job_id} is {known.state}; only a failed job can be requeued."
        )
    return job_id
