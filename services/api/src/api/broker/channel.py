"""A channel that publishes many jobs with one write, and finds the outcome of each.

aiormq opens the connection, keeps it alive, reads its frames and closes it. What it would do for
each message (a lock, two futures, encoding all its headers) is most of what publishing costs, so
that is done here, for many at once.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Self, cast

from aiormq.abc import AbstractConnection, ChannelFrame, ConfirmationFrameType
from aiormq.channel import Channel
from celery import Celery
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from api.broker.confirms import PendingConfirms
from api.broker.encoding import JobFrames
from api.broker.pending_job import PendingJob
from api.errors.types import BrokerUnavailable
from twinlane_sdk.catalogue import Catalogue

_NUMBER: Final = 1
_WRITE_JOBS: Final = 256
_WRITE_BYTES: Final = 2**20
"""What is encoded before it is written; the rest waits until the socket has taken that."""


class ConfirmChannel(Channel):
    """The first channel of a connection."""

    _confirms: PendingConfirms
    _frames: JobFrames
    _writing: asyncio.Lock

    @classmethod
    async def open_on(
        cls,
        connection: AbstractConnection,
        celery: Celery,
        catalogue: Catalogue,
        confirms: PendingConfirms,
    ) -> Self:
        """Open it; the connection must have no channel yet.

        Raises:
            AMQPError, OSError: the connection was lost meanwhile.

        """
        channel = cls(connection, _NUMBER)
        channel._confirms = confirms
        channel._frames = JobFrames(
            celery, catalogue, _NUMBER, connection.connection_tune.frame_max
        )
        channel._writing = asyncio.Lock()
        connection.channels[_NUMBER] = channel
        await channel.open()
        channel.closing.add_done_callback(lambda _: confirms.lose())
        return channel

    async def send(self, jobs: Sequence[PendingJob], deadline: float) -> None:
        """Send jobs; return when more may be sent. Each is resolved or refused, once.

        The event loop never waits for the socket. What the broker does not read is kept here: one
        write, and no more jobs than may be pending.
        """
        unsent = list(jobs)
        try:
            for count, payload in self._writes(jobs):
                await self._write(unsent[:count], payload, deadline)
                del unsent[:count]
        except BrokerUnavailable as exc:
            for job in unsent:
                job.refuse(exc)

    def _writes(self, jobs: Sequence[PendingJob]) -> Iterator[tuple[int, bytes]]:
        """Encode jobs; yield how many are written next, and as what."""
        now = datetime.now(UTC)
        frames: list[bytes] = []
        size = 0
        for job in jobs:
            frames.append(self._frames.encode(job.record, now))
            size += len(frames[-1])
            if len(frames) == _WRITE_JOBS or size >= _WRITE_BYTES:
                yield len(frames), b"".join(frames)
                frames, size = [], 0
        if frames:
            yield len(frames), b"".join(frames)

    async def _write(self, jobs: Sequence[PendingJob], payload: bytes, deadline: float) -> None:
        """Write one payload and return when the socket has taken it.

        Raises:
            BrokerUnavailable: it was not written.

        """
        written = False
        try:
            async with asyncio.timeout_at(deadline), self._writing:
                await self._confirms.room(len(jobs))
                drained = self._put(payload)
                written = True
                self._expect(jobs, deadline)
                await asyncio.wait([drained])  # or lost, and then all that wait are given up
        except (ConnectionError, TimeoutError) as exc:
            if not written:
                reason = str(exc) or "it has stopped reading"
                raise BrokerUnavailable(f"RabbitMQ takes no jobs: {reason}.") from exc

    def _put(self, payload: bytes) -> "asyncio.Future[None]":
        if self.is_closed:
            raise ConnectionError("the connection was lost")
        drained = self.create_future()
        try:
            self.write_queue.put_nowait(ChannelFrame(payload, False, drained))  # noqa: FBT003
        except asyncio.QueueFull:
            drained.cancel()
            raise ConnectionError("its connection is stuck") from None
        return drained

    def _expect(self, jobs: Sequence[PendingJob], deadline: float) -> None:
        tags = self._confirms.add(jobs)
        self.loop.call_at(deadline, self._confirms.expire, tags, self.loop.time())

    # --- what aiormq calls with what it has read ---

    async def _on_confirm_frame(self, frame: ConfirmationFrameType) -> None:
        self._confirms.confirm(
            frame.delivery_tag or 0,
            multiple=getattr(frame, "multiple", False),
            accepted=isinstance(frame, Basic.Ack),
        )

    async def _on_return_frame(self, frame: Basic.Return) -> None:
        header = cast("ContentHeader", await self._get_frame())
        await self._read_content(frame, header)
        self._confirms.returned(header.properties.message_id, frame.routing_key or "")
