"""What has been sent to the broker and waits for its word: matched to each job, bounded in number.

A channel's messages are numbered from 1, and so are the broker's words on them: an ack or a nack of
one message or of all up to one, and before the ack a return of a message that no queue takes.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from api.errors import ApiError, BrokerUnavailable, LaneFull, OutcomeUnknown
from api.job_frames import routing_key
from contracts.records import JobRecord

Tell = Callable[[ApiError | None], object]
"""Is told once what became of a job: None if the broker has it, else why not."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A job to be sent, and who is told what became of it."""

    record: JobRecord
    tell: Tell


class Alarms(NamedTuple):
    """Who is called when the broker does not take what is sent."""

    refused: Callable[[], object]
    unroutable: Callable[[], object]
    silent: Callable[[], object]
    """The broker has said nothing at all since a message that was not confirmed in time."""


class Window:
    """The messages of one channel that the broker has said nothing of, about `size` at most."""

    def __init__(self, size: int, alarms: Alarms) -> None:
        self._size = size
        self._alarms = alarms
        self._last_word = 0.0
        self._last_tag = 0
        # In the order of their tags; None where somebody was told already.
        self._sent: dict[int, Outgoing | None] = {}
        self._shrunk = asyncio.Event()

    def __len__(self) -> int:
        return len(self._sent)

    async def room(self, count: int) -> None:
        """Return when there is room for so many messages."""
        while self._sent and len(self._sent) + count > self._size:
            self._shrunk.clear()
            await self._shrunk.wait()

    def add(self, jobs: Sequence[Outgoing]) -> range:
        """Expect the broker's word on what is sent now; return the tags."""
        tags = range(self._last_tag + 1, self._last_tag + 1 + len(jobs))
        self._sent.update(zip(tags, jobs, strict=True))
        self._last_tag += len(jobs)
        return tags

    def confirm(self, tag: int, *, multiple: bool, accepted: bool) -> None:
        """Tell those whom an ack, or else a nack, is about."""
        self._last_word = asyncio.get_running_loop().time()
        for job in self._answered(tag) if multiple else [self._sent.pop(tag, None)]:
            if job and accepted:
                job.tell(None)
            elif job:
                lane = job.record.lane
                job.tell(LaneFull(f"The queue {lane!r} refused the job: it is full."))
        if not accepted:
            self._alarms.refused()
        self._shrunk.set()

    def returned(self, message_id: str | None) -> None:
        """Tell the job whose message no queue takes; the ack that follows means nothing then."""
        for tag, job in self._sent.items():
            if job and job.record.id == message_id:
                self._sent[tag] = None
                key = routing_key(job.record)
                job.tell(BrokerUnavailable(f"No queue takes {key!r}: it is not declared."))
                break
        self._alarms.unroutable()

    def expire(self, tags: range, sent_at: float) -> None:
        """Tell those of whom the broker has said nothing.

        They keep their place: the broker may have stopped reading, and its word comes later.
        """
        late = [tag for tag in tags if self._sent.get(tag)]
        self._give_up(late)
        if late and self._last_word < sent_at:
            self._alarms.silent()

    def lose(self) -> None:
        """Tell all that nothing will be heard of them: the connection was lost."""
        self._give_up(list(self._sent))
        self._sent.clear()
        self._shrunk.set()

    def _give_up(self, tags: Iterable[int]) -> None:
        for tag in tags:
            if job := self._sent[tag]:
                self._sent[tag] = None
                job.tell(OutcomeUnknown(job.record.id))

    def _answered(self, up_to: int) -> list[Outgoing | None]:
        tags = []
        for tag in self._sent:
            if tag > up_to:
                break
            tags.append(tag)
        return [self._sent.pop(tag) for tag in tags]
