from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from api.batches.cache import BatchCache, JobShape
from api.batches.store import Batch
from contracts.records import ITEM_JOB, BatchRecord
from contracts.states import JobState

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def batch(number: int = 1, jobs: int = 2) -> Batch:
    record = BatchRecord(id=str(UUID(int=number)), submitted_at=NOW, expires_at=NOW)
    return Batch(record, items=ITEM_JOB * jobs, reopens=0)


async def test_end_is_remembered_for_as_long_as_the_batch_is_the_same() -> None:
    cache = BatchCache()
    cached = await cache.get(batch())
    cached.end(cached.job_ids[0], JobState.FAILED, NOW)
    assert (await cache.get(batch())).ends == {cached.job_ids[0]: JobState.FAILED}


@pytest.mark.parametrize("change", [{"items": ITEM_JOB * 3}, {"reopens": 1}])
async def test_batch_that_has_changed_is_read_anew(change: dict[str, object]) -> None:
    cache = BatchCache()
    cached = await cache.get(batch())
    cached.end(cached.job_ids[0], JobState.FAILED, NOW)
    changed = replace(batch(), **change)  # type: ignore[arg-type]  # one field or the other
    fresh = await cache.get(changed)
    assert (fresh.ends, fresh.job_ids) == ({}, await changed.job_ids())


async def test_batch_is_read_anew_after_a_minute_since_records_go_without_notice() -> None:
    cache = BatchCache()
    old = await cache.get(batch())
    assert await cache.get(batch()) is old
    old.read_at -= 60
    assert await cache.get(batch()) is not old


async def test_batches_that_were_asked_for_longest_ago_are_dropped_first() -> None:
    cache = BatchCache(max_jobs=4)
    first, second = await cache.get(batch(1)), await cache.get(batch(2))
    assert await cache.get(batch(1)) is first
    await cache.get(batch(3))
    assert await cache.get(batch(1)) is first
    assert await cache.get(batch(2)) is not second


async def test_batch_that_is_larger_than_the_cache_is_kept_while_no_other_is_asked_for() -> None:
    cache = BatchCache(max_jobs=1)
    large = await cache.get(batch(1))
    assert await cache.get(batch(1)) is large
    await cache.get(batch(2))
    assert await cache.get(batch(1)) is not large


async def test_batch_is_finished_when_its_last_job_is() -> None:
    cached = await BatchCache().get(batch(jobs=3))
    for job_id, at in zip(cached.job_ids, (NOW, LATER, None), strict=True):
        cached.end(job_id, JobState.SUCCEEDED, at)
    assert cached.finished_at == LATER


@pytest.mark.parametrize(
    ("run_at", "state"),
    [(None, JobState.QUEUED), (NOW, JobState.QUEUED), (LATER, JobState.SCHEDULED)],
)
def test_job_that_has_not_begun_is_scheduled_until_it_is_due(
    run_at: datetime | None, state: JobState
) -> None:
    assert JobShape("io.fetch_url", run_at, ()).waiting_state(NOW) is state


def test_shape_has_the_stages_before_the_last() -> None:
    stages = [{"id": "a-job.1", "task": "cpu.render_report"}, {"id": "a-job", "task": "io.send"}]
    record = {"task": "io.send_report", "run_at": NOW.isoformat(), "stages": stages}
    assert JobShape.of(record) == JobShape("io.send_report", NOW, ("a-job.1",))
