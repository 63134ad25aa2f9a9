"""Deaths of messages, shown in their jobs' states by every process of the API."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from contracts.keys import requeues_key
from contracts.states import JobState
from contracts.status import JobStatus
from contracts.topology import DELIVERY_LIMIT
from integration.broker import Broker, headers_of
from integration.jobs import Jobs
from integration.lane_worker import POISON
from integration.place import Place
from integration.proxy import Proxy
from integration.services import run_api, run_lane_worker
from servers import eventually
from twinlane_sdk.lanes import Lane
from twinlane_tasks.http import FETCH_URL
from twinlane_tasks.reports import SEND_REPORT
from twinlane_tasks.sums import SUM_NUMBERS

PROMISED_SECONDS = 5
FAR_AWAY = "http://answers.test/"


@pytest.fixture
def broker(broker: Broker) -> Broker:
    broker.declare()
    return broker


@pytest.fixture
def api(place: Place, broker: Broker) -> Iterator[httpx2.Client]:  # noqa: ARG001 - declared
    with run_api(place) as client:
        yield client


def shown_death(jobs: Jobs, job_id: str) -> JobStatus:
    """Wait as long as is promised for a job to be failed, once its message is dead."""
    status = jobs.wait_for(job_id, JobState.FAILED, within_seconds=PROMISED_SECONDS)
    assert status.failure is not None
    assert status.failure.dead_lettered
    return status


def detail(status: JobStatus) -> str:
    return status.failure.detail if status.failure else ""


def code(status: JobStatus) -> str:
    return status.failure.code if status.failure else ""


def replace_message(broker: Broker, body: str, **headers: Any) -> None:  # noqa: ANN401 - AMQP's
    """Put another body and other headers into the place of the message that waits."""
    message = broker.take("jobs.io")
    assert message is not None
    broker.publish("jobs.io", body, headers_of(message) | headers)


@pytest.mark.usefixtures("api")
def test_poison_job_fails_within_five_seconds_with_reason_and_count(
    place: Place, broker: Broker, jobs: Jobs
) -> None:
    with run_lane_worker(place, Lane.CPU, concurrency=1):
        job_id = jobs.submit(SUM_NUMBERS, a=POISON, b=0)
        # The pool looks for dead processes every five seconds.
        assert eventually(lambda: broker.ready("jobs.dead") == 1, 120)
        status = shown_death(jobs, job_id)
    assert code(status) == "dead-lettered"
    assert f"after {DELIVERY_LIMIT + 1} deliveries (delivery_limit)" in detail(status)
    attempts = jobs.attempts(job_id)
    assert len(attempts) == DELIVERY_LIMIT + 1
    assert {attempt.error.type for attempt in attempts if attempt.error} == {"WorkerLost"}


@pytest.mark.usefixtures("api")
def test_job_whose_body_can_not_be_read_fails(place: Place, broker: Broker, jobs: Jobs) -> None:
    job_id = jobs.submit(FETCH_URL, url=FAR_AWAY)
    replace_message(broker, "{ this is no JSON")
    with run_lane_worker(place, Lane.IO):
        assert eventually(lambda: broker.ready("jobs.dead") == 1)
        status = shown_death(jobs, job_id)
    assert code(status) == "dead-lettered"
    assert "(rejected)" in detail(status)


@pytest.mark.usefixtures("api")
def test_job_of_a_task_that_no_worker_knows_fails(place: Place, broker: Broker, jobs: Jobs) -> None:
    job_id = jobs.submit(FETCH_URL, url=FAR_AWAY)
    replace_message(broker, "[[], {}, {}]", task="io.unheard_of")
    with run_lane_worker(place, Lane.IO):
        assert eventually(lambda: broker.ready("jobs.dead") == 1)
        # The worker says what was wrong, and is given the time to.
        assert code(shown_death(jobs, job_id)) == "task-unknown"


@pytest.mark.usefixtures("api")
def test_job_that_expired_in_its_queue_fails(broker: Broker, jobs: Jobs) -> None:
    broker.expire_queue("jobs.io", milliseconds=1)

    def one_expires() -> bool:
        jobs.submit(FETCH_URL, url=FAR_AWAY)
        return broker.ready("jobs.dead") > 0

    assert eventually(one_expires, 30)  # the policy takes effect after a moment
    dead = broker.take("jobs.dead")
    assert dead is not None
    assert "(expired)" in detail(shown_death(jobs, headers_of(dead)["id"]))


@pytest.mark.usefixtures("api")
def test_first_stage_that_dies_fails_the_job(broker: Broker, jobs: Jobs) -> None:
    job_id = jobs.submit(SEND_REPORT, email="a@empresa.com", report_type="vendas")
    broker.die_with("jobs.cpu")
    assert "(delivery_limit)" in detail(shown_death(jobs, job_id))


@pytest.mark.usefixtures("api")
def test_failure_that_a_worker_wrote_is_left_alone(
    place: Place, broker: Broker, jobs: Jobs
) -> None:
    with run_lane_worker(place, Lane.IO):
        job_id = jobs.submit(FETCH_URL, url="http://rejects.test/")
        written = jobs.outcome(job_id)
        assert eventually(lambda: has_no_notices(broker))
    assert code(written) == "job-rejected"
    assert jobs.status(job_id) == written
    assert len(jobs.attempts(job_id)) == 1


@pytest.mark.usefixtures("api")
def test_letter_stays_when_its_death_is_shown(broker: Broker, jobs: Jobs) -> None:
    job_id = jobs.submit(FETCH_URL, url=FAR_AWAY)
    broker.reject("jobs.io")
    shown_death(jobs, job_id)
    assert broker.ready("jobs.dead") == 1


@pytest.mark.parametrize("headers", [None, {"id": "a-foreign-job", "task": "io.fetch_url"}])
@pytest.mark.usefixtures("api")
def test_death_of_a_foreign_message_ends_no_job_and_holds_up_no_other(
    broker: Broker, jobs: Jobs, headers: dict[str, object] | None
) -> None:
    broker.publish("jobs.io", "!", headers)
    broker.reject("jobs.io")
    job_id = jobs.submit(FETCH_URL, url=FAR_AWAY)
    broker.reject("jobs.io")
    shown_death(jobs, job_id)
    assert eventually(lambda: has_no_notices(broker))
    assert broker.ready("jobs.dead") == 2


@pytest.mark.usefixtures("api")
def test_death_from_before_a_requeue_does_not_end_the_job_again(broker: Broker, jobs: Jobs) -> None:
    job_id = jobs.submit(FETCH_URL, url=FAR_AWAY)
    jobs.redis.set(requeues_key(job_id), 1)
    broker.reject("jobs.io")
    assert eventually(lambda: has_no_notices(broker))
    assert jobs.status(job_id).state is JobState.QUEUED


def test_death_while_no_api_was_up_is_shown_when_one_is(
    place: Place, broker: Broker, jobs: Jobs
) -> None:
    job_id = jobs.submit(FETCH_URL, url=FAR_AWAY)
    broker.reject("jobs.io")
    with run_api(place):
        shown_death(jobs, job_id)


def test_death_while_redis_is_away_is_shown_when_it_is_back(
    place: Place, broker: Broker, jobs: Jobs
) -> None:
    with Proxy(place.result_url) as proxy, run_api(replace(place, result_url=proxy.url)):
        proxy.cut()
        job_id = jobs.submit(FETCH_URL, url=FAR_AWAY)
        broker.reject("jobs.io")
        assert eventually(lambda: broker.ready("jobs.dead.notices") == 0)
        assert jobs.status(job_id).state is JobState.QUEUED
        proxy.restore()
        shown_death(jobs, job_id)


def test_notices_are_consumed_again_after_a_lost_connection(
    place: Place, broker: Broker, jobs: Jobs
) -> None:
    with Proxy(place.broker_url) as proxy, run_api(replace(place, broker_url=proxy.url)):
        proxy.cut()
        job_id = jobs.submit(FETCH_URL, url=FAR_AWAY)
        broker.reject("jobs.io")
        proxy.restore()
        shown_death(jobs, job_id)


def test_queue_of_the_notices_is_declared_again_when_somebody_deleted_it(
    api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    # Nobody else may declare it at once: of a queue that is deleted and declared within some ten
    # milliseconds, RabbitMQ 3.10 keeps a consumer that gets nothing.
    assert eventually(lambda: api.get("/readyz").is_success)
    broker.delete_queue("jobs.dead.notices")
    assert eventually(lambda: broker.has("jobs.dead.notices"))
    job_id = jobs.submit(FETCH_URL, url=FAR_AWAY)
    broker.reject("jobs.io")
    shown_death(jobs, job_id)


def has_no_notices(broker: Broker) -> bool:
    """Return whether all notices are done: one that is held counts, by the management API."""
    return (
        broker.ready("jobs.dead.notices") == 0 and broker.unacknowledged("jobs.dead.notices") == 0
    )
