"""Reopening a job that was taken out of the dead letters.

The API does it after it has published the message again, and so does a worker that gets the message
before. Both do the same, in a transaction that watches the ends.
"""

from collections.abc import Mapping
from typing import Protocol

from contracts.keys import reopens_key, requeues_key
from contracts.records import Meta, batch_of


class Transaction(Protocol):
    """The commands of a Redis transaction that are needed here, of either client."""

    def set(self, name: str, value: int, *, ex: int) -> object:
        """Queue SET … EX."""

    def delete(self, *names: str) -> object:
        """Queue DEL."""

    def incr(self, name: str) -> object:
        """Queue INCR."""

    def expire(self, name: str, time: int) -> object:
        """Queue EXPIRE."""


def queue_reopening(  # noqa: PLR0913, PLR0917 - what was read, and what it is for
    transaction: Transaction,
    job_id: str,
    requeues: int,
    ends: Mapping[str, bytes | str | None],
    raw_record: bytes | str | None,
    ttl_seconds: int,
) -> None:
    """Queue the commands that forget ends from before a requeue, but none that came after it.

    `ends` are the watched keys of ends, with what Redis has there; `requeues` counts this one.
    """
    metas = {key: Meta.from_redis(raw) for key, raw in ends.items()}
    past = [key for key, meta in metas.items() if meta and meta.requeues < requeues]
    transaction.set(requeues_key(job_id), requeues, ex=ttl_seconds)
    if not past:
        return
    transaction.delete(*past)
    if batch := batch_of(raw_record):  # whoever has cached the job's end must forget it
        transaction.incr(reopens_key(batch))
        transaction.expire(reopens_key(batch), ttl_seconds)
