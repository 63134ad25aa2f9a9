"""Which dead letters are meant: by id, by what is known of their jobs, by the cause of death."""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from api.dead_letters.letter import DeadLetter
from api.errors.types import ApiError, DeadLetterNotFound
from api.store.jobs import JobSnapshot, JobStore
from contracts.records import AttemptError
from contracts.states import JobState

_VARYING: Final = (
    (re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE), "<id>"),
    (re.compile(r"'[^']*'|\"[^\"]*\""), "<text>"),
    (re.compile(r"\b(?:0x[0-9a-f]+|(?=[0-9a-f]*\d)[0-9a-f]{8,})\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"\d+"), "<n>"),
)
"""What differs between error messages of the same cause, and its placeholder."""


class Refusal(NamedTuple):
    """A letter that nothing was done with, and why."""

    letter_id: str
    error: ApiError


@dataclass(frozen=True, slots=True)
class KnownLetter:
    """A dead letter with what Redis knows of its job; nothing, once that has expired."""

    letter: DeadLetter
    state: JobState | None = None
    error: AttemptError | None = None
    requeues: int = 0

    @property
    def fingerprint(self) -> str:
        """What letters have in common that died of the same cause: 12 hexadecimal digits."""
        error = self.error
        cause = f"{error.type}: {error.message}" if error else self.letter.death.reason
        for pattern, placeholder in _VARYING:
            cause = pattern.sub(placeholder, cause)
        return hashlib.sha256(f"{self.letter.death.task}\n{cause}".encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Criteria:
    """Which letters are meant; None means any."""

    ids: AbstractSet[str] | None = None
    task: str | None = None
    reason: str | None = None
    fingerprint: str | None = None
    died_after: datetime | None = None
    died_before: datetime | None = None

    async def select(self, letters: Sequence[KnownLetter]) -> list[KnownLetter]:
        """Return the letters that are meant, oldest death first."""
        # In a thread: the fingerprints of ten thousand letters keep the processor busy for long.
        chosen = await asyncio.to_thread(lambda: list(filter(self._match, letters)))
        return sorted(chosen, key=lambda known: _died_at(known.letter))

    def refuse_missing(self, chosen: Sequence[KnownLetter]) -> list[Refusal]:
        """Return a refusal for each id that was asked for and is not among the chosen letters.

        Raises:
            DeadLetterNotFound: none of the ids is.

        """
        found = {known.letter.id for known in chosen}
        missing = [letter_id for letter_id in self.ids or () if letter_id not in found]
        if missing and not found:
            raise DeadLetterNotFound(
                f"No dead letter {missing[0]!r} is there, nor another of the ids."
            )
        return [
            Refusal(letter_id, DeadLetterNotFound(f"No dead letter {letter_id!r} is there."))
            for letter_id in missing
        ]

    def _match(self, known: KnownLetter) -> bool:
        letter = known.letter
        return (
            (self.ids is None or letter.id in self.ids)
            and self.task in {None, letter.death.task}
            and self.reason in {None, letter.death.reason}
            and (self.died_after is None or _died_at(letter) > self.died_after.timestamp())
            and (self.died_before is None or 0 < _died_at(letter) < self.died_before.timestamp())
            and self.fingerprint in {None, known.fingerprint}
        )


async def describe(store: JobStore, letters: Sequence[DeadLetter]) -> list[KnownLetter]:
    """Return the letters with what is known of their jobs.

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
    error = AttemptError(type=failure.error_type, message=failure.detail) if failure else None
    return KnownLetter(letter, snapshot.status.state, error, snapshot.requeues)


def _died_at(letter: DeadLetter) -> float:
    """Return when a letter died, in seconds since the epoch; 0 if it does not say."""
    return letter.death.died_at.timestamp() if letter.death.died_at else 0.0
