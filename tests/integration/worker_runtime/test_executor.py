"""What surrounds every task, in real workers whose tasks do what a test asks: lane_worker.py."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
from kombu import Message

from contracts.keys import meta_key
from contracts.records import Attempt, Progress, Running
from contracts.states import PROGRESS_STATE, JobState
from contracts.storage import artifact_key, open_storage
from contracts.topology import DELIVERY_LIMIT
from integration.broker import Broker, headers_of
from integration.jobs import Jobs
from integration.lane_worker import DEAF, NO_SALES, POISON
from integration.place import Place, new_place
from integration.services import Service, run_lane_worker, start_lane_worker
from servers import RabbitMQ, Redis, eventually
from twinlane_sdk.lanes import Lane
from twinlane_tasks.http import FETCH_URL
from twinlane_tasks.reports import SEND_REPORT
from twinlane_tasks.sums import SUM_NUMBERS


@pytest.fixture(scope="module")
def place(
    rabbitmq: RabbitMQ, redis: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """One place for all tests here: their jobs don't disturb each other."""
    with new_place(rabbitmq, redis, tmp_path_factory.mktemp("lanes")) as place:
        yield place


@pytest.fixture(scope="module")
def io_worker(place: Place) -> Iterator[Service]:
    with run_lane_worker(place, Lane.IO) as worker:
        yield worker


@pytest.fixture(scope="module")
def cpu_worker(place: Place) -> Iterator[Service]:
    with run_lane_worker(place, Lane.CPU, concurrency=1) as worker:
        yield worker


@pytest.fixture
def own_place(rabbitmq: RabbitMQ, redis: Redis, tmp_path: Path) -> Iterator[Place]:
    """A place for a test that starts and stops workers itself."""
    with new_place(rabbitmq, redis, tmp_path) as place:
        yield place


@pytest.fixture
def own_jobs(own_place: Place) -> Iterator[Jobs]:
    jobs = Jobs(own_place)
    yield jobs
    jobs.celery.close()
    jobs.redis.close()


def open_gate(place: Place, gate: str) -> None:
    (place.folder / f"{gate}.open").touch()


def has_begun(place: Place, gate: str) -> bool:
    return (place.folder / f"{gate}.begun").exists()


def dead_letter(broker: Broker, job_id: str, within_seconds: float = 30) -> Message:
    """Wait for the dead letter of a job and take it away."""
    found: list[Message] = []

    def take() -> bool:
        message = broker.take("jobs.dead")
        if message and headers_of(message).get("id") == job_id:
            found.append(message)
        return bool(found)

    assert eventually(take, within_seconds)
    return found[0]


def death(message: Message) -> Any:  # noqa: ANN401 - an AMQP table
    latest = headers_of(message)["x-death"][
        0
    ]  # the first death of a retried job was in a delay queue
    return latest["reason"], latest["queue"]


@pytest.mark.usefixtures("io_worker")
def test_job_runs_and_leaves_its_result_and_its_attempt(jobs: Jobs) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://answers.test/")
    status = jobs.outcome(job_id)
    assert status.state is JobState.SUCCEEDED
    assert jobs.result(job_id)["url"] == "http://answers.test/"
    (attempt,) = jobs.attempts(job_id)
    assert (attempt.number, attempt.task, attempt.error) == (1, FETCH_URL.name, None)
    assert status.started_at == attempt.started_at


@pytest.mark.usefixtures("io_worker")
def test_running_job_says_where_and_since_when(place: Place, jobs: Jobs) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://waits.test/seen")
    assert eventually(lambda: has_begun(place, "seen"), 30)
    running = jobs.status(job_id)
    open_gate(place, "seen")
    jobs.outcome(job_id)
    (attempt,) = jobs.attempts(job_id)
    assert running.state is JobState.RUNNING
    assert (running.worker, running.started_at) == (attempt.worker, attempt.started_at)


@pytest.mark.usefixtures("io_worker")
def test_retryable_failure_is_tried_again_after_its_backoff(jobs: Jobs) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://fails-before.test/3")
    waiting = jobs.wait_for(job_id, JobState.RETRYING)
    assert waiting.next_attempt_at is not None
    assert jobs.outcome(job_id).state is JobState.SUCCEEDED
    first, second, third = jobs.attempts(job_id)
    assert [attempt.number for attempt in (first, second, third)] == [1, 2, 3]
    assert [message_of(attempt) for attempt in (first, second, third)] == [
        "RetryableError: attempt 1 failed",
        "RetryableError: attempt 2 failed",
        None,
    ]
    for earlier, later in ((first, second), (second, third)):
        assert earlier.backoff_seconds == 1
        assert later.started_at >= earlier.ended_at + timedelta(seconds=1)


@pytest.mark.usefixtures("io_worker")
def test_job_whose_attempts_are_exhausted_fails_and_is_dead_lettered(
    jobs: Jobs, broker: Broker
) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://fails-before.test/99")
    failure = jobs.outcome(job_id).failure
    assert failure is not None
    assert (failure.code, failure.detail) == ("attempts-exhausted", "attempt 3 failed")
    assert failure.retryable
    assert failure.dead_lettered
    assert [attempt.backoff_seconds for attempt in jobs.attempts(job_id)] == [1, 1, None]
    assert death(dead_letter(broker, job_id)) == ("rejected", "jobs.io")


@pytest.mark.usefixtures("io_worker")
def test_job_that_the_storage_failed_is_tried_again(jobs: Jobs) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://loses-storage.test/2")
    assert jobs.outcome(job_id).state is JobState.SUCCEEDED
    first, _ = jobs.attempts(job_id)
    assert first.error is not None
    assert first.error.message == "the storage failed: the connection was reset"


@pytest.mark.usefixtures("io_worker")
def test_rejected_job_fails_without_a_retry_and_is_dead_lettered(
    jobs: Jobs, broker: Broker
) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://rejects.test/")
    failure = jobs.outcome(job_id).failure
    assert failure is not None
    assert (failure.code, failure.detail) == ("job-rejected", "this will never work")
    assert len(jobs.attempts(job_id)) == 1
    assert death(dead_letter(broker, job_id)) == ("rejected", "jobs.io")


@pytest.mark.usefixtures("io_worker")
def test_bug_in_a_task_fails_loudly_and_is_not_retried(jobs: Jobs, io_worker: Service) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://breaks.test/")
    failure = jobs.outcome(job_id).failure
    assert failure is not None
    assert (failure.code, failure.error_type) == ("internal-error", "ZeroDivisionError")
    assert len(jobs.attempts(job_id)) == 1
    assert eventually(lambda: "ZeroDivisionError: a bug" in io_worker.log.read_text())


@pytest.mark.usefixtures("io_worker")
def test_invalid_arguments_are_rejected_with_what_is_wrong(jobs: Jobs, broker: Broker) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://answers.test/")
    jobs.outcome(job_id)
    message = jobs.message(jobs.record(job_id))
    wrong = json.dumps([[], {"url": "nothing", "colour": "blue"}, {}])
    headers = {**message.headers, "id": f"{job_id}.wrong", "root_id": f"{job_id}.wrong"}
    broker.publish("jobs.io", wrong, headers)

    def meta() -> dict[str, Any]:
        raw = jobs.redis.get(meta_key(headers["id"]))
        assert raw is None or isinstance(raw, bytes)
        found: dict[str, Any] = json.loads(raw or b"{}")
        return found

    assert eventually(lambda: meta().get("status") == "FAILURE")
    error = meta()["result"]
    assert error["exc_type"] == "RejectedError"
    assert "io.fetch_url got invalid arguments" in str(error["exc_message"])
    assert "url: " in str(error["exc_message"])
    assert "colour: " in str(error["exc_message"])


@pytest.mark.usefixtures("io_worker")
def test_progress_is_visible_and_reported_at_most_four_times_a_second(jobs: Jobs) -> None:
    heard: list[dict[str, Any]] = []
    listener = jobs.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    listener.psubscribe(meta_key("*"))
    assert eventually(lambda: listener.get_message(timeout=1) is None and listener.subscribed)
    job_id = jobs.submit(FETCH_URL, url="http://reports.test/")
    while not (heard and heard[-1]["status"] == "SUCCESS"):
        message = listener.get_message(timeout=30)
        assert message is not None, "no change for half a minute"
        if message["channel"].decode() == meta_key(job_id):
            heard.append(json.loads(message["data"]))
    listener.close()
    running = [change["result"] for change in heard if change["status"] == PROGRESS_STATE]
    reports = [Running.model_validate(result).progress for result in running]
    assert 1 <= len(reports) <= 5  # of thousands, within a second
    assert reports[0] == Progress(current=1, total=4, unit="rows", percent=25.0, message="counting")


@pytest.mark.usefixtures("io_worker")
def test_result_above_64_kib_becomes_an_artifact(place: Place, jobs: Jobs) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://writes.test/70000")
    assert jobs.outcome(job_id).state is JobState.SUCCEEDED
    reference = jobs.result(job_id)
    assert reference["$artifact"] == "result.json"
    stored = obstore.get(
        open_storage(place.storage_url), artifact_key(job_id, "result.json")
    ).bytes()
    assert len(stored) == reference["size_bytes"]
    assert json.loads(bytes(stored))["content_type"] == "x" * 70_000


@pytest.mark.usefixtures("io_worker")
def test_result_of_64_kib_stays_where_it_is(jobs: Jobs) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://writes.test/65000")
    jobs.outcome(job_id)
    assert jobs.result(job_id)["content_type"] == "x" * 65_000


@pytest.mark.usefixtures("io_worker", "cpu_worker")
def test_chain_runs_on_both_lanes_and_leaves_its_result_under_the_id_of_the_job(
    jobs: Jobs,
) -> None:
    job_id = jobs.submit(SEND_REPORT, email="ana@empresa.com")
    assert jobs.outcome(job_id).state is JobState.SUCCEEDED
    assert jobs.result(job_id)["subject"] == f"Report of job {job_id}"
    rendered, sent = jobs.attempts(job_id)
    assert rendered.task == "cpu.render_report"
    assert rendered.worker.startswith("worker-cpu-")
    assert sent.task == "io.send_report"
    assert sent.worker.startswith("worker-io-")


@pytest.mark.usefixtures("io_worker", "cpu_worker")
def test_chain_ends_with_the_failure_of_its_first_stage(jobs: Jobs) -> None:
    job_id = jobs.submit(SEND_REPORT, email="ana@empresa.com", region=NO_SALES)
    failure = jobs.outcome(job_id).failure
    assert failure is not None
    assert (failure.code, failure.detail) == ("job-rejected", "no sales in this region")
    assert [attempt.task for attempt in jobs.attempts(job_id)] == ["cpu.render_report"]


@pytest.mark.usefixtures("cpu_worker")
def test_integers_of_4000_digits_are_summed_exactly(jobs: Jobs) -> None:
    job_id = jobs.submit(SUM_NUMBERS, a=10**4_000 - 1, b=2)
    jobs.outcome(job_id)
    assert jobs.result(job_id) == {"total": 10**4_000 + 1}


@pytest.mark.usefixtures("cpu_worker")
def test_job_that_kills_its_worker_is_dead_lettered_and_the_lane_goes_on(
    place: Place, jobs: Jobs, broker: Broker
) -> None:
    poison = jobs.submit(SUM_NUMBERS, a=POISON, b=0)
    # The pool looks for dead processes every five seconds.
    dead = dead_letter(broker, poison, within_seconds=120)
    assert death(dead) == ("delivery_limit", "jobs.cpu")
    assert len((place.folder / f"{poison}.deaths").read_text()) == DELIVERY_LIMIT + 1
    healthy = jobs.submit(SUM_NUMBERS, a=1, b=2)
    jobs.outcome(healthy)
    assert jobs.result(healthy) == {"total": 3}


@pytest.mark.usefixtures("io_worker")
@pytest.mark.parametrize(
    ("body", "content_type"),
    [("{not json", "application/json"), ("gASVAQ==", "application/x-python-serialize")],
)
def test_body_that_can_not_be_read_is_dead_lettered_and_the_worker_goes_on(
    jobs: Jobs, broker: Broker, body: str, content_type: str
) -> None:
    message_id = f"unreadable {content_type}"
    headers = {"task": FETCH_URL.name, "id": message_id, "lang": "py"}
    broker.publish("jobs.io", body, content_type=content_type, headers=headers)
    assert death(dead_letter(broker, message_id)) == ("rejected", "jobs.io")
    job_id = jobs.submit(FETCH_URL, url="http://answers.test/")
    assert jobs.outcome(job_id).state is JobState.SUCCEEDED


@pytest.mark.usefixtures("io_worker")
def test_task_that_no_worker_knows_is_dead_lettered(broker: Broker) -> None:
    headers = {"task": "io.unheard_of", "id": "stranger", "lang": "py"}
    broker.publish("jobs.io", "[[], {}, {}]", headers)
    assert death(dead_letter(broker, "stranger")) == ("rejected", "jobs.io")


def test_message_that_is_delivered_twice_changes_nothing(
    jobs: Jobs, broker: Broker, cpu_worker: Service
) -> None:
    job_id = jobs.submit(SUM_NUMBERS, a=2, b=3)
    first = jobs.outcome(job_id)
    jobs.publish_again(job_id)
    assert eventually(lambda: is_ignored(cpu_worker, job_id), 30)
    assert jobs.result(job_id) == {"total": 5}
    assert jobs.status(job_id) == first
    assert len(jobs.attempts(job_id)) == 1
    assert broker.ready("jobs.cpu") == 0


@pytest.mark.parametrize("address", ["http://rejects.test/", "http://breaks.test/"])
def test_failed_job_stays_failed_when_it_is_delivered_again(
    jobs: Jobs, io_worker: Service, address: str
) -> None:
    job_id = jobs.submit(FETCH_URL, url=address)
    first = jobs.outcome(job_id)
    jobs.publish_again(job_id)
    assert eventually(lambda: is_ignored(io_worker, job_id), 30)
    assert jobs.status(job_id) == first
    assert len(jobs.attempts(job_id)) == 1


@pytest.mark.usefixtures("io_worker")
def test_job_out_of_the_dead_letters_runs_again_and_keeps_its_attempts(
    jobs: Jobs, place: Place
) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://rejects-until.test/mended")
    assert jobs.outcome(job_id).state is JobState.FAILED
    open_gate(place, "mended")
    jobs.publish_again(job_id, requeues=1)
    assert jobs.wait_for(job_id, JobState.SUCCEEDED).failure is None
    before, after = jobs.attempts(job_id)
    assert (before.requeues, after.requeues) == (0, 1)
    assert before.error is not None
    assert after.error is None


@pytest.mark.usefixtures("io_worker")
def test_heartbeat_file_is_touched_again_and_again(place: Place) -> None:
    (heartbeat,) = place.folder.glob("worker-io-*.heartbeat")
    before = heartbeat.stat().st_mtime_ns
    assert eventually(lambda: heartbeat.stat().st_mtime_ns > before, 30)


def test_sigterm_lets_a_running_job_finish(own_place: Place, own_jobs: Jobs) -> None:
    with run_lane_worker(own_place, Lane.IO) as worker:
        job_id = own_jobs.submit(FETCH_URL, url="http://waits.test/gate")
        assert eventually(lambda: has_begun(own_place, "gate"))
        worker.terminate()
        assert eventually(lambda: "Warm shutdown" in worker.log.read_text())
        open_gate(own_place, "gate")
        assert worker.exit_code() == 0
    assert own_jobs.status(job_id).state is JobState.SUCCEEDED
    assert Broker(own_place).ready("jobs.io") == 0


def test_job_of_a_worker_that_is_killed_runs_on_another(own_place: Place, own_jobs: Jobs) -> None:
    with run_lane_worker(own_place, Lane.IO) as worker:
        job_id = own_jobs.submit(FETCH_URL, url="http://waits.test/gate")
        assert eventually(lambda: has_begun(own_place, "gate"))
        worker.kill()
    open_gate(own_place, "gate")
    with run_lane_worker(own_place, Lane.IO):
        assert own_jobs.outcome(job_id).state is JobState.SUCCEEDED


def test_workers_side_by_side_have_names_of_their_own_and_share_the_work(
    own_place: Place, own_jobs: Jobs
) -> None:
    with (
        run_lane_worker(own_place, Lane.IO, concurrency=1),
        run_lane_worker(own_place, Lane.IO, concurrency=1),
    ):
        submitted = [
            own_jobs.submit(FETCH_URL, url=f"http://waits.test/{gate}") for gate in ("a", "b")
        ]
        # One worker runs one job at a time: both have begun only if each worker has one.
        assert eventually(lambda: all(has_begun(own_place, gate) for gate in ("a", "b")), 30)
        for gate in ("a", "b"):
            open_gate(own_place, gate)
        for job_id in submitted:
            own_jobs.outcome(job_id)
    names = {attempt.worker for job_id in submitted for attempt in own_jobs.attempts(job_id)}
    assert len(names) == 2


def test_jobs_of_one_lane_do_not_wait_for_the_other(own_place: Place, own_jobs: Jobs) -> None:
    # No cpu worker runs, and its jobs pile up.
    for _ in range(20):
        own_jobs.submit(SUM_NUMBERS, a=1, b=1)
    with run_lane_worker(own_place, Lane.IO):
        job_id = own_jobs.submit(FETCH_URL, url="http://answers.test/")
        assert own_jobs.outcome(job_id).state is JobState.SUCCEEDED
    assert Broker(own_place).ready("jobs.cpu") == 20


def test_threads_of_a_worker_run_jobs_at_the_same_time(own_place: Place, own_jobs: Jobs) -> None:
    gates = [f"gate-{number}" for number in range(8)]
    with run_lane_worker(own_place, Lane.IO, concurrency=8):
        for gate in gates:
            own_jobs.submit(FETCH_URL, url=f"http://waits.test/{gate}")
        together = eventually(lambda: all(has_begun(own_place, gate) for gate in gates), 30)
        for gate in gates:
            open_gate(own_place, gate)
    assert together


def test_attempt_whose_worker_was_killed_is_in_the_history(
    own_place: Place, own_jobs: Jobs
) -> None:
    with run_lane_worker(own_place, Lane.IO) as worker:
        job_id = own_jobs.submit(FETCH_URL, url="http://waits.test/gate")
        assert eventually(lambda: has_begun(own_place, "gate"))
        worker.kill()
    open_gate(own_place, "gate")
    with run_lane_worker(own_place, Lane.IO):
        own_jobs.outcome(job_id)
    lost, finished = own_jobs.attempts(job_id)
    assert message_of(lost) == "WorkerLost: the worker was lost before the attempt ended"
    assert lost.worker != finished.worker
    assert message_of(finished) is None


def test_job_that_was_cancelled_with_no_worker_up_never_runs(
    own_place: Place, own_jobs: Jobs
) -> None:
    job_id = own_jobs.submit(FETCH_URL, url="http://waits.test/gate")
    own_jobs.cancel(job_id)
    with run_lane_worker(own_place, Lane.IO):
        assert own_jobs.outcome(job_id).state is JobState.CANCELLED
    assert not has_begun(own_place, "gate")
    assert own_jobs.attempts(job_id) == []
    assert Broker(own_place).ready("jobs.io") == 0


@pytest.mark.usefixtures("io_worker")
def test_running_job_of_the_io_lane_stops_when_it_is_cancelled(jobs: Jobs, place: Place) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://waits.test/cancelled")
    assert eventually(lambda: has_begun(place, "cancelled"), 30)
    jobs.cancel(job_id)
    assert jobs.outcome(job_id).state is JobState.CANCELLED
    (attempt,) = jobs.attempts(job_id)
    assert message_of(attempt) == "JobCancelledError: cancelled while it ran"


@pytest.mark.usefixtures("cpu_worker")
def test_running_job_that_never_looks_is_ended_by_force(
    jobs: Jobs, place: Place, broker: Broker
) -> None:
    dead_before = broker.ready("jobs.dead")
    job_id = jobs.submit(SUM_NUMBERS, a=DEAF, b=0)
    assert eventually(lambda: has_begun(place, job_id), 30)
    jobs.cancel(job_id)
    assert jobs.outcome(job_id).state is JobState.CANCELLED
    assert broker.ready("jobs.dead") == dead_before
    healthy = jobs.submit(SUM_NUMBERS, a=1, b=2)
    jobs.outcome(healthy)
    assert jobs.result(healthy) == {"total": 3}


@pytest.mark.usefixtures("io_worker")
def test_retrying_job_that_is_cancelled_is_not_tried_again(jobs: Jobs) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://fails-before.test/99")
    jobs.wait_for(job_id, JobState.RETRYING)
    jobs.cancel(job_id)
    assert jobs.outcome(job_id).state is JobState.CANCELLED
    assert len(jobs.attempts(job_id)) < 3


@pytest.mark.usefixtures("cpu_worker", "io_worker")
def test_job_that_finished_first_stays_succeeded(jobs: Jobs) -> None:
    job_id = jobs.submit(FETCH_URL, url="http://answers.test/")
    jobs.outcome(job_id)
    jobs.cancel(job_id)
    jobs.publish_again(job_id)
    assert jobs.status(job_id).state is JobState.SUCCEEDED


def test_second_worker_of_one_name_is_refused_in_one_line(own_place: Place) -> None:
    with run_lane_worker(own_place, Lane.IO, worker_name="same"):
        second = start_lane_worker(own_place, Lane.IO, worker_name="same")
        assert second.exit_code() == 1
        assert "a worker named same@" in second.log.read_text()
        assert "choose another WORKER_NAME" in second.log.read_text()
        assert "Traceback" not in second.log.read_text()


def is_ignored(worker: Service, job_id: str) -> bool:
    return f"{job_id}] was delivered again after its end" in worker.log.read_text()


def message_of(attempt: Attempt) -> str | None:
    return f"{attempt.error.type}: {attempt.error.message}" if attempt.error else None
