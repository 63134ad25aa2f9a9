from datetime import timedelta
from typing import Any

import pytest

from contracts.records import Attempt, Meta, StageMetas
from contracts.states import JobState
from contracts.status import JobStatus, derive_status
from unit.contracts.examples import LATER, NOW, attempt, report_record, sum_record


def meta(status: str, result: Any = None) -> Meta:  # noqa: ANN401 - JSON
    return Meta(status=status, result=result, date_done=NOW)


def failure_meta(error_type: str, *message: object) -> Meta:
    return meta("FAILURE", {"exc_type": error_type, "exc_message": list(message)})


def status_of(*metas: Meta | None, attempts: tuple[Attempt, ...] = ()) -> JobStatus:
    record = sum_record() if len(metas) == 1 else report_record()
    return derive_status(record, [found(meta) for meta in metas], attempts, NOW)


def found(meta: Meta | None) -> StageMetas:
    """Put a meta under the key that it belongs to."""
    is_end = meta is not None and meta.is_end
    return StageMetas(end=meta, running=None) if is_end else StageMetas(end=None, running=meta)


@pytest.mark.parametrize(
    ("celery_state", "state"),
    [
        ("STARTED", JobState.RUNNING),
        ("RETRY", JobState.RETRYING),
        ("SUCCESS", JobState.SUCCEEDED),
        ("FAILURE", JobState.FAILED),
        ("REVOKED", JobState.CANCELLED),
    ],
)
def test_every_state_of_celery_has_its_job_state(celery_state: str, state: JobState) -> None:
    assert status_of(meta(celery_state)).state is state


def test_only_succeeded_failed_and_cancelled_are_terminal() -> None:
    terminal = {state for state in JobState if state.is_terminal}
    assert terminal == {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


def test_job_has_begun_unless_it_is_scheduled_or_queued() -> None:
    not_begun = {state for state in JobState if not state.has_begun}
    assert not_begun == {JobState.SCHEDULED, JobState.QUEUED}


def test_job_that_nobody_has_started_is_queued() -> None:
    status = status_of(None)
    assert status == JobStatus(state=JobState.QUEUED)


def test_job_is_scheduled_until_it_is_due_and_queued_from_then_on() -> None:
    record = sum_record(run_at=LATER)
    before, after = LATER - timedelta(seconds=1), LATER
    assert derive_status(record, [found(None)], [], before).state is JobState.SCHEDULED
    assert derive_status(record, [found(None)], [], after).state is JobState.QUEUED


def test_scheduled_job_that_a_worker_has_started_is_running() -> None:
    record = sum_record(run_at=LATER)
    assert derive_status(record, [found(meta("STARTED"))], [], NOW).state is JobState.RUNNING


def test_reported_progress_belongs_to_a_running_job() -> None:
    reported = {"current": 5, "total": 20, "unit": "rows", "percent": 25.0, "message": None}
    running = {"worker": "worker-cpu-1@host", "started_at": NOW, "progress": reported}
    status = status_of(meta("PROCESSING", running))
    assert status.state is JobState.RUNNING
    assert (status.worker, status.started_at) == ("worker-cpu-1@host", NOW)
    assert status.progress is not None
    assert status.progress.model_dump() == reported


def test_started_job_without_a_report_has_no_progress() -> None:
    assert status_of(meta("STARTED", {"worker": "here", "started_at": NOW})).progress is None


def test_job_that_a_foreign_worker_has_started_is_running() -> None:
    assert status_of(meta("STARTED", {"pid": 1, "hostname": "here"})).state is JobState.RUNNING


def test_retrying_job_says_when_its_next_attempt_is_due() -> None:
    waiting = status_of(
        meta("RETRY"), attempts=(attempt(1, "refused", 2), attempt(2, "refused", 4))
    )
    assert waiting.next_attempt_at == NOW + timedelta(seconds=4)
    assert waiting.started_at == NOW - timedelta(seconds=1)


def test_retrying_job_without_known_attempts_has_no_next_attempt() -> None:
    assert status_of(meta("RETRY")) == JobStatus(state=JobState.RETRYING)


def test_succeeded_job_says_when_it_started_and_ended() -> None:
    status = status_of(meta("SUCCESS", {"total": 5}), attempts=(attempt(),))
    assert status.state is JobState.SUCCEEDED
    assert (status.started_at, status.finished_at) == (NOW - timedelta(seconds=1), NOW)
    assert status.failure is None


@pytest.mark.parametrize(
    ("error_type", "code", "retryable"),
    [
        ("RejectedError", "job-rejected", False),
        ("RetryableError", "attempts-exhausted", True),
        ("DeadlineExceededError", "deadline-exceeded", True),
        ("SoftTimeLimitExceeded", "deadline-exceeded", True),
        ("TimeLimitExceeded", "deadline-exceeded", True),
        ("WorkerLostError", "worker-lost", True),
        ("NotRegistered", "task-unknown", True),
        ("ZeroDivisionError", "internal-error", False),
    ],
)
def test_failure_has_a_stable_code_and_says_whether_to_try_again(
    error_type: str, code: str, *, retryable: bool
) -> None:
    status = status_of(failure_meta(error_type, "because of", "this"))
    assert status.state is JobState.FAILED
    assert status.finished_at == NOW
    assert status.failure is not None
    assert (status.failure.code, status.failure.retryable) == (code, retryable)
    assert status.failure.error_type == error_type


def test_failure_tells_what_the_task_said() -> None:
    failure = status_of(failure_meta("RejectedError", "the file", "is empty")).failure
    assert failure is not None
    assert failure.detail == "the file is empty"


@pytest.mark.parametrize("result", [None, "a text", [], {"exc_type": "KeyError"}, {}])
def test_failure_in_an_unknown_form_still_reads_as_one(result: object) -> None:
    failure = status_of(meta("FAILURE", result)).failure
    assert failure is not None
    assert failure.code == "internal-error"
    assert failure.detail


def test_hard_time_limit_is_told_in_words_and_is_not_dead_lettered() -> None:
    # Celery stores only the number of seconds, and acknowledges: see task_acks_on_timeout.
    failure = status_of(failure_meta("TimeLimitExceeded", 330)).failure
    assert failure is not None
    assert failure.detail == "It was stopped after 330 seconds."
    assert not failure.dead_lettered


@pytest.mark.parametrize("error_type", ["RejectedError", "RetryableError", "KeyError"])
def test_every_other_final_failure_is_dead_lettered(error_type: str) -> None:
    failure = status_of(failure_meta(error_type, "no")).failure
    assert failure is not None
    assert failure.dead_lettered


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        (None, None, JobState.QUEUED),
        ("STARTED", None, JobState.RUNNING),
        ("RETRY", None, JobState.RETRYING),
        ("SUCCESS", None, JobState.RUNNING),
        ("SUCCESS", "STARTED", JobState.RUNNING),
        ("SUCCESS", "RETRY", JobState.RETRYING),
        ("SUCCESS", "SUCCESS", JobState.SUCCEEDED),
        ("SUCCESS", "FAILURE", JobState.FAILED),
        ("FAILURE", None, JobState.FAILED),
        ("FAILURE", "FAILURE", JobState.FAILED),
        ("REVOKED", None, JobState.CANCELLED),
        ("SUCCESS", "REVOKED", JobState.CANCELLED),
    ],
)
def test_state_of_a_job_of_two_stages_is_that_of_both(
    first: str | None, second: str | None, state: JobState
) -> None:
    metas = [meta(name) if name else None for name in (first, second)]
    assert status_of(*metas).state is state


def test_failure_of_the_first_stage_is_the_reason_of_the_job() -> None:
    failure = status_of(failure_meta("RejectedError", "no sales in 2025-01"), None).failure
    assert failure is not None
    assert (failure.code, failure.detail) == ("job-rejected", "no sales in 2025-01")


def test_progress_of_the_first_stage_is_forgotten_once_the_second_runs() -> None:
    reported = {"current": 1, "total": 2, "unit": "pages", "percent": 50.0}
    rendering = meta("PROCESSING", {"progress": reported})
    assert status_of(rendering).progress is not None
    assert status_of(rendering, meta("STARTED")).progress is None


def test_end_from_before_a_requeue_is_past() -> None:
    record, ended = sum_record(), StageMetas(end=failure_meta("RejectedError", "no"), running=None)
    assert derive_status(record, [ended], [], NOW).state is JobState.FAILED
    assert derive_status(record, [ended], [], NOW, requeues=1).state is JobState.QUEUED


def test_end_of_a_requeued_job_counts() -> None:
    again = Meta(status="SUCCESS", date_done=NOW, requeues=1)
    task = StageMetas(end=again, running=meta("STARTED"))
    assert derive_status(sum_record(), [task], [], NOW, requeues=1).state is JobState.SUCCEEDED


def test_end_counts_whatever_a_second_delivery_does() -> None:
    task = StageMetas(end=failure_meta("RejectedError", "no"), running=meta("STARTED"))
    assert derive_status(sum_record(), [task], [], NOW).state is JobState.FAILED


def test_cancelled_report_stays_cancelled_whatever_its_first_stage_does() -> None:
    tasks = [
        StageMetas(end=failure_meta("RejectedError", "no"), running=None),
        StageMetas(end=meta("REVOKED"), running=None),
    ]
    assert derive_status(report_record(), tasks, [], NOW).state is JobState.CANCELLED
