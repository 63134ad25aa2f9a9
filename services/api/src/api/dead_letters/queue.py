"""The dead letters: read without shortening their life, published again, deleted.

A quorum queue can't be browsed: reading is consuming and putting back. Whoever reads holds a lock
at the broker, so that no reader finds half of the letters in the hands of another; it vanishes
with its connection, and so does the hold on the letters. Exclusive consumers would not do: a
quorum queue lets in two of them.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, cast

from aiormq.abc import AbstractConnection, DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import ChannelLockedResource, DeliveryError, PublishError

from api.broker.connection import LOST_CONNECTION, connected
from api.concurrency import wait_for_event
from api.dead_letters.letter import DeadLetter
from api.dead_letters.message import RequeuedMessage
from api.errors.types import BrokerUnavailable, DeadLettersBusy, LaneFull, RequeueOutcomeUnknown
from contracts.topology import DEAD_LETTERS, JOBS

SCAN_LIMIT: Final = 10_000
"""Letters held at once at most; those behind them are seen when these are gone."""

_SCAN_BYTES: Final = 64 * 1024**2
_SCAN_SECONDS: Final = 5.0
_LOCK_SECONDS: Final = 2.0
"""How long a reader waits for another to finish, in this process and then at the broker."""
_CONFIRM_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.005
_LOCK: Final = f"{DEAD_LETTERS.name}.reader"


class Hold:
    """The letters that one reader holds; those that it does not remove are put back."""

    def __init__(self, channel: Channel, letters: Sequence[DeadLetter], total: int) -> None:
        self.letters = letters
        self.total = total
        """Letters in the queue, of which `letters` may be a part."""
        self._channel = channel
        self._remaining = total

    async def publish(self, message: RequeuedMessage) -> None:
        """Publish a letter's job again; return once the broker has confirmed it.

        Raises:
            BrokerUnavailable: no queue takes it.
            LaneFull: the queue refused it.
            RequeueOutcomeUnknown: no confirm came in time.

        """
        try:
            async with asyncio.timeout(_CONFIRM_SECONDS):
                await self._channel.basic_publish(
                    message.body,
                    exchange=JOBS.name,
                    routing_key=message.queue,
                    properties=message.properties,
                    mandatory=True,
                    wait=False,
                )
        except PublishError as exc:
            raise BrokerUnavailable(f"No queue takes {message.queue!r}.") from exc
        except DeliveryError as exc:
            raise LaneFull(f"The queue {message.queue!r} refused the job: it is full.") from exc
        except LOST_CONNECTION as exc:
            raise RequeueOutcomeUnknown(message.job_id) from exc

    async def remove(self, letter: DeadLetter) -> None:
        """Delete a letter."""
        await self._channel.basic_ack(letter.tag)
        self._remaining -= 1

    async def put_back(self) -> None:
        """Return what is left to the queue; wait until it is there, for the next reader to find."""
        await self._channel.basic_nack(0, multiple=True)
        while await _count(self._channel) < self._remaining:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(_POLL_SECONDS)
        await self._channel.close()


class DeadLetterQueue:
    """Lets one reader at a time hold the dead letters."""

    def __init__(self, broker_url: str, timeout_seconds: float) -> None:
        self._broker_url = broker_url
        self._timeout_seconds = timeout_seconds
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Hold]:
        """Hold the letters, up to SCAN_LIMIT, and put back in the end what was not removed.

        Raises:
            DeadLettersBusy: somebody else holds them for longer than one wants to wait.
            BrokerUnavailable: RabbitMQ does not answer in time.

        """
        try:
            async with (
                self._locked_here(),
                # A connection of its own: letters must not keep the publisher's confirms waiting.
                connected(self._broker_url, self._timeout_seconds) as connection,
            ):
                channel = await self._lock_at_broker(connection)
                async with asyncio.timeout(self._timeout_seconds + _SCAN_SECONDS):
                    hold = await _hold_letters(channel)
                try:
                    yield hold
                finally:
                    # If this fails, RabbitMQ puts them back when the connection ends.
                    with suppress(*LOST_CONNECTION):
                        async with asyncio.timeout(self._timeout_seconds):
                            await hold.put_back()
        except LOST_CONNECTION as exc:
            reason = str(exc) or "no answer in time"
            raise BrokerUnavailable(f"The dead letters can't be read: {reason}.") from exc

    @asynccontextmanager
    async def _locked_here(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_LOCK_SECONDS):
                await self._lock.acquire()
        except TimeoutError as exc:
            raise DeadLettersBusy from exc
        try:
            yield
        finally:
            self._lock.release()

    async def _lock_at_broker(self, connection: AbstractConnection) -> Channel:
        """Take the lock, a queue that belongs to this connection and ends with it."""
        deadline = asyncio.get_running_loop().time() + _LOCK_SECONDS
        while True:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            try:
                await channel.queue_declare(_LOCK, exclusive=True, timeout=self._timeout_seconds)
            except ChannelLockedResource as exc:  # which has closed the channel
                if asyncio.get_running_loop().time() > deadline:
                    raise DeadLettersBusy from exc
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return cast("Channel", channel)  # the abstract type does not know `wait`


class _Scan:
    """Collects letters within bounds of number and size."""

    def __init__(self, wanted: int) -> None:
        self.letters: list[DeadLetter] = []
        self.is_done = asyncio.Event()
        self._wanted = wanted
        self._copies: Counter[str] = Counter()
        self._size_bytes = 0

    async def add(self, message: DeliveredMessage) -> None:
        letter = DeadLetter.of(message)
        self._copies[letter.id] += 1
        self.letters.append(letter.copy_number(self._copies[letter.id]))
        self._size_bytes += len(letter.body)
        if len(self.letters) >= self._wanted or self._size_bytes >= _SCAN_BYTES:
            self.is_done.set()


async def _hold_letters(channel: Channel) -> Hold:
    total = await _count(channel)
    letters = await _take(channel, min(total, SCAN_LIMIT)) if total else []
    return Hold(channel, letters, total)


async def _count(channel: Channel) -> int:
    declared = await channel.queue_declare(DEAD_LETTERS.name, passive=True)
    return declared.message_count or 0


async def _take(channel: Channel, wanted: int) -> list[DeadLetter]:
    """Take letters out without acknowledging them; return what has come within _SCAN_SECONDS."""
    scan = _Scan(wanted)
    await channel.basic_qos(prefetch_count=wanted)
    consumer = await channel.basic_consume(DEAD_LETTERS.name, scan.add)
    await wait_for_event(scan.is_done, _SCAN_SECONDS)
    await channel.basic_cancel(consumer.consumer_tag or "")
    return scan.letters
