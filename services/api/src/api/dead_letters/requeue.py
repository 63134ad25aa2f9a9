"""Taking letters out of the queue: to run their jobs again, or to delete them for good."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from api.broker.connection import LOST_CONNECTION
from api.dead_letters.canary import CanaryOutcome, watch_canary
from api.dead_letters.job_updates import JobUpdates
from api.dead_letters.letter import DeadLetter
from api.dead_letters.message import RequeuedMessage
from api.dead_letters.queue import DeadLetterQueue, Hold
from api.dead_letters.selection import Criteria, KnownLetter, Refusal, describe
from api.errors.types import ApiError, DeadLetterNotRequeueable, JobNotFound, ResultsUnavailable
from api.store.changes import StateChanges
from api.store.jobs import JobStore
from api.store.redis import chunks
from contracts.states import JobState
from twinlane_sdk.catalogue import Catalogue

_PUBLISHED_AT_ONCE: Final = 500
"""Messages that wait for their confirms at the same time."""
_REOPENED_AT_ONCE: Final = 40
"""Each takes a connection to Redis."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Requeued:
    """What became of the letters that were meant."""

    requeued: list[DeadLetter] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    canary: CanaryOutcome | None = None
    left: int = 0
    """Letters that were meant and are still there: beyond the limit, or behind a canary."""


@dataclass(frozen=True, slots=True)
class Discarded:
    """What became of the letters that were meant."""

    discarded: list[DeadLetter]
    refused: list[Refusal]
    left: int


class Requeuer:
    """Takes letters out of the queue."""

    def __init__(
        self,
        catalogue: Catalogue,
        queue: DeadLetterQueue,
        store: JobStore,
        changes: StateChanges,
        updates: JobUpdates,
    ) -> None:
        self._catalogue = catalogue
        self._queue = queue
        self._store = store
        self._changes = changes
        self._updates = updates

    async def requeue(self, criteria: Criteria, limit: int, canary: int | None) -> Requeued:
        """Run the jobs of dead letters again; with a canary, the rest only if the first succeed.

        Raises:
            DeadLetterNotFound: none of the ids is there.
            ApiError: why no letter at all could be sent.

        """
        outcome = Requeued()
        rest = await self._requeue(criteria, limit, canary, outcome)
        if canary and outcome.requeued:
            outcome.canary = await watch_canary(self._store, self._changes, outcome.requeued)
            if rest and outcome.canary is CanaryOutcome.SUCCEEDED:
                await self._requeue_rest(rest, outcome)
                rest = []
        outcome.left += len(rest)
        return outcome

    async def discard(self, criteria: Criteria, limit: int) -> Discarded:
        """Delete dead letters for good.

        Raises:
            DeadLetterNotFound: none of the ids is there.

        """
        async with self._queue.hold() as hold:
            if criteria.fingerprint:
                known = await describe(self._store, hold.letters)
            else:  # nothing else needs Redis
                known = [KnownLetter(letter) for letter in hold.letters]
            chosen = await criteria.select(known)
            refused = criteria.refuse_missing(chosen)
            letters = [choice.letter for choice in chosen[:limit]]
            for letter in letters:
                await hold.remove(letter)
        return Discarded(letters, refused, len(chosen) - len(letters))

    async def _requeue(
        self, criteria: Criteria, limit: int, first: int | None, outcome: Requeued
    ) -> list[str]:
        """Requeue the first letters that are meant; return the ids of those to come after them."""
        async with self._queue.hold() as hold:
            chosen = await criteria.select(await describe(self._store, hold.letters))
            outcome.refused += criteria.refuse_missing(chosen)
            outcome.left += len(chosen[limit:])
            messages = self._messages(chosen[:limit], outcome)
            await self._send(hold, messages[:first], outcome)
        return [message.letter.id for message in messages[first:]] if first else []

    def _messages(self, chosen: Sequence[KnownLetter], outcome: Requeued) -> list[RequeuedMessage]:
        """Return the messages that run the letters' jobs again; refuse those that can't run."""
        messages: dict[str, RequeuedMessage] = {}
        for known in chosen:
            try:
                job_id = _failed_job(known)
                if job_id in messages:
                    raise DeadLetterNotRequeueable(f"Another letter of job {job_id} is requeued.")
                before = max(known.requeues, known.letter.death.requeues)
                messages[job_id] = RequeuedMessage.of(
                    self._catalogue, known.letter, job_id, before + 1
                )
            except ApiError as exc:
                outcome.refused.append(Refusal(known.letter.id, exc))
        return list(messages.values())

    async def _requeue_rest(self, letter_ids: Sequence[str], outcome: Requeued) -> None:
        try:
            the_rest = Criteria(ids=frozenset(letter_ids))
            await self._requeue(the_rest, len(letter_ids), None, outcome)
        except ApiError as exc:
            outcome.refused += [Refusal(letter_id, exc) for letter_id in letter_ids]

    async def _send(
        self, hold: Hold, messages: Sequence[RequeuedMessage], outcome: Requeued
    ) -> None:
        """Publish, and only then reopen the job and delete the letter.

        A crash in between leaves both: the job runs, and its letter can't be requeued again
        because the job has not failed.
        """
        for chunk in chunks(messages, _PUBLISHED_AT_ONCE):
            errors = await self._publish(hold, chunk)
            sent = [message for message, error in zip(chunk, errors, strict=True) if not error]
            if not sent and not outcome.requeued:
                raise next(error for error in errors if error)
            outcome.refused += [
                Refusal(message.letter.id, error)
                for message, error in zip(chunk, errors, strict=True)
                if error
            ]
            outcome.requeued += [message.letter for message in sent]
            await self._reopen(sent)
            with suppress(*LOST_CONNECTION):
                await asyncio.gather(*(hold.remove(message.letter) for message in sent))

    async def _publish(
        self, hold: Hold, messages: Sequence[RequeuedMessage]
    ) -> list[ApiError | None]:
        """Publish messages; return for each why it could not be, or None."""
        try:
            # Before, so that no job runs of which nothing is known any more.
            await self._updates.prepare([message.job_id for message in messages])
        except ResultsUnavailable as exc:
            return [exc] * len(messages)
        return await asyncio.gather(*(_publish(hold, message) for message in messages))

    async def _reopen(self, messages: Sequence[RequeuedMessage]) -> None:
        for chunk in chunks(messages, _REOPENED_AT_ONCE):
            reopened = map(self._updates.reopen, chunk)
            errors = await asyncio.gather(*reopened, return_exceptions=True)
            for message, error in zip(chunk, errors, strict=True):
                if error:  # then the worker that begins it will do it
                    logger.warning("job %s is reopened when it runs: %s", message.job_id, error)


async def _publish(hold: Hold, message: RequeuedMessage) -> ApiError | None:
    try:
        await hold.publish(message)
    except ApiError as exc:
        return exc
    return None


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
