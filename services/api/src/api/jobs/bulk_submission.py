"""Submitting many jobs at once, each with its own outcome."""

from collections.abc import Sequence

from api.broker.publisher import Publisher
from api.errors.types import ApiError, OutcomeUnknown
from api.jobs.reconciliation import Reconciler
from api.store.jobs import JobStore
from contracts.records import JobRecord


class BulkSubmitter:
    """Submits the jobs of batches."""

    def __init__(self, store: JobStore, publisher: Publisher, reconciler: Reconciler) -> None:
        self._store = store
        self._publisher = publisher
        self._reconciler = reconciler

    async def submit(self, records: Sequence[JobRecord]) -> dict[str, ApiError]:
        """Accept many jobs at once; return, by their ids, why some were not accepted.

        Of jobs that an earlier request has recorded, those are published that may not have reached
        the broker by it. It raises nothing: what concerns all jobs is each one's reason.
        """
        deadline = self._publisher.deadline()
        try:
            await self._publisher.ready(deadline)
            are_new = await self._store.create_many(records)
            unsent = await self._unsent(records, are_new)
        except ApiError as exc:
            # Not those with a key: they may be jobs that an earlier request had accepted.
            await self._reconciler.reconcile([(r, exc) for r in records if r.fingerprint is None])
            return dict.fromkeys((record.id for record in records), exc)
        outcomes = await self._publisher.publish_many(unsent, deadline)
        refused = [(record, e) for record, e in zip(unsent, outcomes, strict=True) if e]
        new = {record.id for record, is_new in zip(records, are_new, strict=True) if is_new}
        await self._reconciler.reconcile(
            [(r, e) for r, e in refused if r.id in new or isinstance(e, OutcomeUnknown)]
        )
        return {record.id: error for record, error in refused}

    async def _unsent(
        self, records: Sequence[JobRecord], are_new: Sequence[bool]
    ) -> list[JobRecord]:
        """Return the jobs that are new, or may not have reached the broker before."""
        if all(are_new):
            return list(records)
        known = [record.id for record, is_new in zip(records, are_new, strict=True) if not is_new]
        begun = {
            snapshot.record.id
            async for snapshot in self._store.snapshots(known)
            if snapshot.status.state.has_begun
        }
        return [record for record in records if record.id not in begun]
