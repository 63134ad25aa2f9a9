"""Batches in Redis: which jobs one has. What became of those is read by `states`."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from api.concurrency import yielding
from api.errors.types import BatchNotFound
from api.store.redis import RedisClient
from contracts.keys import batch_key, items_key, reopens_key
from contracts.records import ITEM_JOB, BatchRecord, Reception, batch_job_id

BODY_SECONDS: Final = 600
"""What the body of a batch may take to come in. One that takes longer will not: its API process was
killed."""
_CLOCKS_DIFFER_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as Redis knows it at one moment."""

    record: BatchRecord
    items: bytes
    """What became of each item that has come in: a byte each, ITEM_JOB or another."""
    reopens: int
    """How often a job of it was reopened after its end."""

    async def job_ids(self) -> list[str]:
        """Return the ids of its jobs in the order of their items; some may be taken back again."""
        return [
            batch_job_id(self.record.id, index)
            async for index, item in yielding(enumerate(self.items))
            if item == ord(ITEM_JOB)
        ]

    @property
    def intake(self) -> Reception:
        """Whether all items have come in; no more will after BODY_SECONDS."""
        age = (datetime.now(UTC) - self.record.submitted_at).total_seconds()
        is_late = age > BODY_SECONDS + _CLOCKS_DIFFER_SECONDS
        if self.record.reception is Reception.RECEIVING and is_late:
            return Reception.BROKEN_OFF
        return self.record.reception


class BatchStore:
    """The API's view of the batches in the result backend.

    All methods raise ResultsUnavailable if Redis does not answer in time.
    """

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis.client
        self._bounded = redis.bounded

    async def create(self, record: BatchRecord) -> bool:
        """Write the record of a new batch, without items; return False if there is one."""
        async with self._bounded(), self._redis.pipeline(transaction=False) as pipeline:
            for key, value in (
                (batch_key(record.id), record.model_dump_json()),
                (items_key(record.id), b""),
            ):
                pipeline.set(key, value, nx=True, exat=record.expires_at)
            created, _ = await pipeline.execute()
        return bool(created)

    async def extend(
        self, batch_id: str, start: int, items: bytes, expires_at: datetime | None
    ) -> None:
        """Write what becomes of the items from `start` on; keep the batch until `expires_at`."""
        async with self._bounded(), self._redis.pipeline(transaction=False) as pipeline:
            pipeline.setrange(items_key(batch_id), start, items)
            if expires_at:
                for key in (batch_key(batch_id), items_key(batch_id)):
                    pipeline.expireat(key, expires_at, gt=True)
            await pipeline.execute()

    async def finish(self, record: BatchRecord) -> None:
        """Write the record once more, when no more items will come."""
        async with self._bounded():
            await self._redis.set(
                batch_key(record.id), record.model_dump_json(), xx=True, exat=record.expires_at
            )

    async def delete(self, batch_id: str) -> None:
        """Delete a batch none of whose items became a job."""
        async with self._bounded():
            await self._redis.delete(batch_key(batch_id), items_key(batch_id))

    async def read(self, batch_id: str) -> Batch:
        """Return a batch as it is now.

        Raises:
            BatchNotFound: there is none.

        """
        keys = (batch_key(batch_id), items_key(batch_id), reopens_key(batch_id))
        async with self._bounded():
            raw, items, reopens = cast("list[bytes | None]", await self._redis.mget(keys))
        if raw is None:
            raise BatchNotFound(batch_id)
        return Batch(BatchRecord.model_validate_json(raw), items or b"", int(reopens or 0))
