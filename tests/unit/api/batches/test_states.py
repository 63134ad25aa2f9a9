from collections import Counter

import pytest

from api.batches.states import combined_state
from contracts.states import JobState

SCHEDULED, QUEUED, RUNNING, RETRYING = (
    JobState.SCHEDULED,
    JobState.QUEUED,
    JobState.RUNNING,
    JobState.RETRYING,
)
SUCCEEDED, FAILED, CANCELLED = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED


@pytest.mark.parametrize("state", JobState)
def test_batch_whose_jobs_agree_is_in_their_state(state: JobState) -> None:
    assert combined_state(Counter([state] * 3)) is state


@pytest.mark.parametrize(
    ("states", "combined"),
    [
        ([SUCCEEDED, FAILED], FAILED),
        ([SUCCEEDED, CANCELLED], CANCELLED),
        ([SUCCEEDED, CANCELLED, FAILED], FAILED),
    ],
)
def test_batch_succeeds_only_if_every_job_did(states: list[JobState], combined: JobState) -> None:
    assert combined_state(Counter(states)) is combined


@pytest.mark.parametrize("waiting", [SCHEDULED, QUEUED, RUNNING, RETRYING])
@pytest.mark.parametrize("ended", [SUCCEEDED, FAILED, CANCELLED])
def test_batch_runs_from_its_first_finished_job_to_its_last(
    waiting: JobState, ended: JobState
) -> None:
    assert combined_state(Counter([ended, waiting])) is RUNNING


@pytest.mark.parametrize(
    ("states", "combined"),
    [
        ([SCHEDULED, QUEUED], QUEUED),
        ([QUEUED, RETRYING], RETRYING),
        ([QUEUED, RETRYING, RUNNING], RUNNING),
    ],
)
def test_unfinished_batch_is_in_its_most_advanced_state(
    states: list[JobState], combined: JobState
) -> None:
    assert combined_state(Counter(states)) is combined


def test_states_that_no_job_is_in_do_not_count() -> None:
    assert combined_state({FAILED: 0, SUCCEEDED: 2}) is SUCCEEDED
