"""What has been sent to the broker and waits for its word: matched to each job, bounded in number.

A channel's messages are numbered from 1, and so are the broker's words on them: an ack or a nack of
one message or of all up to one, and before the ack a return of a message that no queue takes.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Final, NamedTuple

from api.broker.encoding import routing_key
from api.errors.types import ApiError, BrokerUnavailable, LaneFull, OutcomeUnknown
from contracts.records import JobRecord

Tell = Callable[[ApiError | None], object]
"""Is told once what became of a job: None if the broker has it, else why not."""

_MOST_UNANSWERED: Final = 100_000
"""Messages of one connection that the broker may leave without a word."""


class Outgoing(NamedTuple):
    """A job to be sent, and who is told what became of it."""

    record: JobRecord
    tell: Tell


class Alarms(NamedTuple):
    """Who is called when the broker does not take what is sent."""

    refused: Callable[[], object]
    unroutable: Callable[[], object]
    silent: Callable[[], object]
    """The broker says nothing, or leaves out too much; it may be that it is not there."""


class Window:
    """The messages of one channel of which nobody knows yet what became, at most `size`."""

    def __init__(self, size: int, alarms: Alarms) -> None:
        self._size = size
        self._alarms = alarms
        self._last_word = 0.0
        self._last_tag = 0
        # What the broker has not answered, in the order of the tags; None where the job was told
        # already: its message was returned, or not confirmed in time.
        self._sent: dict[int, Outgoing | None] = {}
        self._waiting = 0
        self._shrunk = asyncio.Event()

    def __len__(self) -> int:
        return self._waiting

    async def room(self, count: int) -> None:
        """Return when there is room for so many messages, or nothing else."""
        while self._waiting and self._waiting + count > self._size:
            self._shrunk.clear()
            await self._shrunk.wait()

    def add(self, jobs: Sequence[Outgoing]) -> range:
        """Expect the broker's word on what is sent now; return the tags."""
        tags = range(self._last_tag + 1, self._last_tag + 1 + len(jobs))
        self._sent.update(zip(tags, jobs, strict=True))
        self._last_tag += len(jobs)
        self._waiting += len(jobs)
        return tags

    def confirm(self, tag: int, *, multiple: bool, accepted: bool) -> None:
        """Tell those whom an ack, or else a nack, is about."""
        self._last_word = asyncio.get_running_loop().time()
        for answered in self._up_to(tag) if multiple else [tag]:
            job = self._sent.pop(answered, None)
            if job and accepted:
                self._tell(job, None)
            elif job:
                lane = job.record.lane
                self._tell(job, LaneFull(f"The queue {lane!r} refused the job: it is full."))
        if not accepted:
            self._alarms.refused()

    def returned(self, message_id: str | None) -> None:
        """Tell the job whose message no queue takes; the ack that follows means nothing then."""
        for tag, job in self._sent.items():
            if job and job.record.id == message_id:
                self._sent[tag] = None
                key = routing_key(job.record)
                self._tell(job, BrokerUnavailable(f"No queue takes {key!r}: it is not declared."))
                break
        self._alarms.unroutable()

    def expire(self, tags: range, sent_at: float) -> None:
        """Tell those of whom the broker has said nothing; its word may still come."""
        late = [tag for tag in tags if self._sent.get(tag)]
        self._give_up(late)
        is_silent = self._last_word < sent_at
        if late and (is_silent or len(self._sent) > _MOST_UNANSWERED):
            self._alarms.silent()

    def lose(self) -> None:
        """Tell all that nothing will be heard of them: the connection was lost."""
        self._give_up(list(self._sent))
        self._sent.clear()

    def _give_up(self, tags: Iterable[int]) -> None:
        for tag in tags:
            if job := self._sent[tag]:
                self._sent[tag] = None
                self._tell(job, OutcomeUnknown(job.record.id))

    def _tell(self, job: Outgoing, error: ApiError | None) -> None:
        self._waiting -= 1
        self._shrunk.set()
        job.tell(error)

    def _up_to(self, last: int) -> list[int]:
        return list(takewhile(lambda tag: tag <= last, self._sent))
