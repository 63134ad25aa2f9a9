from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from contracts.keys import meta_key
from contracts.records import JobRecord, new_record
from twinlane_tasks.reports import RENDER_REPORT, SEND_REPORT
from twinlane_tasks.sums import SUM_NUMBERS, SumArgs
from unit.contracts.examples import attempt, report_record, sum_record


def test_attempt_that_ended_for_good_has_no_next_one() -> None:
    assert attempt(5, "refused").next_attempt_at is None


def test_last_stage_carries_the_id_of_the_job() -> None:
    record = report_record()
    assert [(stage.id, stage.task) for stage in record.stages] == [
        ("job-42.1", RENDER_REPORT.name),
        ("job-42", SEND_REPORT.name),
    ]
    assert (record.task, record.lane) == (SEND_REPORT.name, "io")


def test_lifetime_of_a_scheduled_job_counts_from_when_it_is_due() -> None:
    due = datetime.now(UTC) + timedelta(days=30)
    assert sum_record(run_at=due).expires_at == due + timedelta(seconds=60)


def test_lifetime_of_a_job_that_is_due_counts_from_its_submission() -> None:
    record = sum_record(run_at=datetime.now(UTC) - timedelta(days=30))
    assert record.expires_at == record.submitted_at + timedelta(seconds=60)


def test_record_survives_being_stored() -> None:
    record = report_record()
    assert JobRecord.model_validate_json(record.model_dump_json()) == record


def test_integer_of_4000_digits_survives_being_stored() -> None:
    digits = 10**4_000 - 1
    args = SumArgs(a=digits, b=-digits)
    record = new_record(SUM_NUMBERS, args, job_id="job-42", ttl_seconds=60)
    assert JobRecord.model_validate_json(record.model_dump_json()).args["a"] == digits


def test_record_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        sum_record().id = "another"  # type: ignore[misc]  # that is the point


def test_record_of_a_newer_submitter_is_read_without_what_is_unknown() -> None:
    newer = sum_record().model_dump(mode="json") | {"priority": 9}
    assert JobRecord.model_validate(newer).id == "job-42"


def test_celery_finds_its_meta_under_its_own_prefix() -> None:
    assert meta_key("job-42") == "celery-task-meta-job-42"
