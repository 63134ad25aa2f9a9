"""Jobs that were sent and that the broker has not confirmed: each with its outcome, in bounds.

A channel's messages are numbered from 1, and so are the broker's answers: an ack or a nack of one
message or of all up to one, and before the ack a return of a message that no queue takes.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Final, NamedTuple

from api.broker.pending_job import PendingJob
from api.errors.types import ApiError, BrokerUnavailable, LaneFull, OutcomeUnknown

_MOST_UNANSWERED: Final = 100_000
"""Messages of one connection that the broker may leave without an answer."""


class ConfirmListener(NamedTuple):
    """What is called when the broker does not take what is sent."""

    refused: Callable[[], object]
    unroutable: Callable[[], object]
    silent: Callable[[], object]
    """The broker does not answer, or leaves out too much; it may be that it is not there."""


class PendingConfirms:
    """The messages of one channel whose outcome is not known yet, at most `size`."""

    def __init__(self, size: int, listener: ConfirmListener) -> None:
        self._size = size
        self._listener = listener
        self._last_answer_at = 0.0
        self._last_tag = 0
        # What the broker has not answered, in the order of the tags; None where the job has its
        # outcome already: its message was returned, or not confirmed in time.
        self._sent: dict[int, PendingJob | None] = {}
        self._pending = 0
        self._has_shrunk = asyncio.Event()

    def __len__(self) -> int:
        return self._pending

    async def room(self, count: int) -> None:
        """Return when there is room for so many messages, or nothing else."""
        while self._pending and self._pending + count > self._size:
            self._has_shrunk.clear()
            await self._has_shrunk.wait()

    def add(self, jobs: Sequence[PendingJob]) -> range:
        """Expect the broker's answer to what is sent now; return the tags."""
        tags = range(self._last_tag + 1, self._last_tag + 1 + len(jobs))
        self._sent.update(zip(tags, jobs, strict=True))
        self._last_tag += len(jobs)
        self._pending += len(jobs)
        return tags

    def confirm(self, tag: int, *, multiple: bool, accepted: bool) -> None:
        """Resolve the jobs that an ack is about, or refuse those of a nack."""
        self._last_answer_at = asyncio.get_running_loop().time()
        for answered in self._up_to(tag) if multiple else [tag]:
            job = self._sent.pop(answered, None)
            if job and accepted:
                self._leave()
                job.resolve(None)
            elif job:
                lane = job.record.lane
                self._refuse(job, LaneFull(f"The queue {lane!r} refused the job: it is full."))
        if not accepted:
            self._listener.refused()

    def returned(self, message_id: str | None, routing_key: str) -> None:
        """Refuse the job whose message no queue takes; the ack that follows means nothing then."""
        for tag, job in self._sent.items():
            if job and job.record.id == message_id:
                self._sent[tag] = None
                self._refuse(
                    job, BrokerUnavailable(f"No queue takes {routing_key!r}: it is not declared.")
                )
                break
        self._listener.unroutable()

    def expire(self, tags: range, sent_at: float) -> None:
        """Give up those that the broker has not answered; its answer may still come."""
        late = [tag for tag in tags if self._sent.get(tag)]
        self._give_up(late)
        is_silent = self._last_answer_at < sent_at
        if late and (is_silent or len(self._sent) > _MOST_UNANSWERED):
            self._listener.silent()

    def lose(self) -> None:
        """Give up all: the connection was lost, and no answer will come."""
        self._give_up(list(self._sent))
        self._sent.clear()

    def _give_up(self, tags: Iterable[int]) -> None:
        for tag in tags:
            if job := self._sent[tag]:
                self._sent[tag] = None
                self._refuse(job, OutcomeUnknown(job.record.id))

    def _refuse(self, job: PendingJob, error: ApiError) -> None:
        self._leave()
        job.refuse(error)

    def _leave(self) -> None:
        self._pending -= 1
        self._has_shrunk.set()

    def _up_to(self, last: int) -> list[int]:
        return list(takewhile(lambda tag: tag <= last, self._sent))
