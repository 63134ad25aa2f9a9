import pytest

from api.broker.pending_job import OnRefusal, PendingJob
from api.errors.types import ApiError, LaneFull
from contracts.records import new_record
from twinlane_tasks.sums import SUM_NUMBERS, SumArgs

FULL = LaneFull("It is full.")


def pending(on_refusal: OnRefusal | None = None) -> PendingJob:
    record = new_record(SUM_NUMBERS, SumArgs(a=1, b=2), job_id="job-1", ttl_seconds=60)
    return PendingJob(record, 0, on_refusal)


@pytest.mark.parametrize("error", [None, FULL])
async def test_submitter_gets_the_outcome(error: ApiError | None) -> None:
    job = pending()
    job.resolve(error)
    assert await job.outcome is error


async def test_first_outcome_counts() -> None:
    job = pending()
    job.resolve(None)
    job.refuse(FULL)
    job.fail(ValueError("late"))
    assert await job.outcome is None


async def test_refusal_without_anybody_to_reconcile_it_is_the_outcome() -> None:
    job = pending()
    job.refuse(FULL)
    assert await job.outcome is FULL


async def test_refusal_is_reconciled_before_the_submitter_gets_it() -> None:
    refused: list[tuple[PendingJob, ApiError]] = []
    job = pending(lambda job, error: refused.append((job, error)))
    job.refuse(FULL)
    assert refused == [(job, FULL)]
    assert not job.outcome.done()
    job.resolve(FULL)
    assert await job.outcome is FULL


async def test_refusal_is_reconciled_though_the_submitter_has_gone() -> None:
    refused: list[ApiError] = []
    job = pending(lambda _, error: refused.append(error))
    job.outcome.cancel()
    job.refuse(FULL)
    job.resolve(FULL)
    assert refused == [FULL]


async def test_failure_before_sending_is_raised_to_the_submitter() -> None:
    job = pending()
    job.fail(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await job.outcome
