"""What is done about jobs that were recorded and not accepted, before their clients are told."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from api.errors.types import ApiError, OutcomeUnknown, ResultsUnavailable
from api.jobs.reconciliation import Settlement
from api.store.jobs import JobStore
from contracts.records import JobRecord

AFTERWARDS_SECONDS: Final = 0.4
"""What tidying up may add to an answer that was late already."""

logger = logging.getLogger(__name__)


class Refusals:
    """Takes records back, or has it found out what became of their jobs."""

    def __init__(self, store: JobStore, settlement: Settlement) -> None:
        self._store = store
        self._settlement = settlement

    async def settle(self, refused: Sequence[tuple[JobRecord, ApiError]]) -> None:
        """Tidy up after refusals; what Redis does not take now is done later."""
        unknown = [record for record, error in refused if isinstance(error, OutcomeUnknown)]
        if unknown:
            await self._have_settled(unknown)
        certain = [record for record, error in refused if not isinstance(error, OutcomeUnknown)]
        if certain:
            await self._take_back(certain)

    async def _have_settled(self, records: Sequence[JobRecord]) -> None:
        try:
            async with asyncio.timeout(AFTERWARDS_SECONDS):
                await self._settlement.take(records)
        except (ResultsUnavailable, TimeoutError) as exc:
            logger.warning("Redis is away after a submission: %s", exc)

    async def _take_back(self, records: Sequence[JobRecord]) -> None:
        try:
            async with asyncio.timeout(AFTERWARDS_SECONDS):
                await self._store.delete([record.id for record in records])
        except (ResultsUnavailable, TimeoutError):
            self._settlement.withdraw_later(records)
