"""Messages and cancels."""

# ruff: noqa: PLR0913, PLR0917 - fixtures are arguments

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kombu.transport.native_delayed_delivery import MAX_LEVEL, level_name

from beat.schedule import create_schedule
from beat.scheduler import JobScheduler
from chaos.client import Client
from chaos.faults import restart
from chaos.queues import LaneQueue
from chaos.reliability import Measured
from chaos.scene import Gate, add, ended, fetch, succeeded, wait_for
from chaos.services import ApiService, BeatingService, cpu_worker, obedient_worker, together
from contracts.keys import record_key
from contracts.records import new_record
from contracts.topology import DEAD_LETTERS
from integration.broker import Broker
from integration.jobs import Jobs
from integration.place import Place
from servers import eventually
from twinlane_sdk.lanes import Lane
from twinlane_tasks.http import FETCH_URL, FetchUrlArgs

VISIBLE_WITHIN_SECONDS = 5.0
MACHINE_SLACK_SECONDS = 5.0


@pytest.fixture
def client(place: Place, broker: Broker) -> Iterator[Client]:  # noqa: ARG001 - declared
    """A client of an API that lets the obedient worker's addresses in."""
    with (
        ApiService(place, fetch_allowed_hosts="*.test") as api,
        Client(api.url) as client,
    ):
        yield client


def recorded(jobs: Jobs) -> str:
    """Return the id of a job that has a record and no message yet."""
    args = FetchUrlArgs(url="http://answers.test/")
    record = new_record(FETCH_URL, args, job_id=str(uuid.uuid4()), ttl_seconds=3600)
    assert jobs.redis.set(record_key(record.id), record.model_dump_json(), nx=True)
    return record.id


@pytest.mark.parametrize(
    ("fault", "body", "headers"),
    [
        ("A body that is no JSON", "{not json", {"task": FETCH_URL.name}),
        ("A body that is no task", '"surprise"', {"task": FETCH_URL.name}),
        ("A task that no worker knows", "[[], {}, {}]", {"task": "io.unheard_of"}),
    ],
    ids=["no-json", "no-task", "unknown-task"],
)
def test_message_that_can_not_be_run_fails_visibly(
    fault: str,
    body: str,
    headers: dict[str, str],
    jobs: Jobs,
    place: Place,
    broker: Broker,
    client: Client,
    measured: Measured,
) -> None:
    """A message that no worker can run makes its job fail within 5 s and stays in the dead
    letters; the worker goes on.

    Fault: one of three.
    """
    measured.fault(f"{fault}, in a lane's queue.")
    with obedient_worker(place, Lane.IO) as worker:
        job_id = recorded(jobs)
        sent = time.monotonic()
        broker.publish(Lane.IO.queue_name, body, {**headers, "id": job_id, "lang": "py"})
        assert ended(client, job_id, 30)["state"] == "failed"
        seconds = time.monotonic() - sent
        measured.seconds("failed after", seconds)
        assert seconds < VISIBLE_WITHIN_SECONDS + MACHINE_SLACK_SECONDS
        assert broker.ready(DEAD_LETTERS.name) == 1
        succeeded(client, fetch(client, "http://answers.test/after"))
        assert worker.is_running()


def test_retry_that_can_not_be_published_loses_no_job(
    place: Place, broker: Broker, client: Client, measured: Measured
) -> None:
    """A job whose retry can't be published is delivered again, and ends as it should.

    Fault: the exchange of delayed messages is deleted when a job must be retried.
    """
    with obedient_worker(place, Lane.IO) as worker:
        succeeded(client, fetch(client, "http://answers.test/before"))
        with broker.channel() as channel:
            channel.exchange_delete(level_name(MAX_LEVEL))
        job = fetch(client, "http://fails-before.test/2")
        gone = time.monotonic()
        assert not eventually(lambda: client.job(job)["state"] == "failed", 3), client.job(job)
        broker.declare()
        succeeded(client, job)
        measured.seconds("succeeded after", time.monotonic() - gone)
        assert worker.is_running()


def test_cancel_without_a_worker_holds(
    place: Place, client: Client, broker: Broker, measured: Measured
) -> None:
    """A job that was cancelled while no worker was up never runs.

    Fault: the cancel of a queued and of a delayed job with no worker, which then starts.
    """
    queued = Gate(place, "queued")
    job, kept = fetch(client, queued.url), fetch(client, "http://answers.test/")
    delayed = client.submit("io.fetch_url", {"url": "http://answers.test/later"}, delay=3)
    for cancelled in (job, delayed):
        answer = client.request("POST", f"/v1/jobs/{cancelled}/cancel")
        assert answer.status == 202, answer
    with obedient_worker(place, Lane.IO):
        assert ended(client, job)["state"] == "cancelled"
        assert ended(client, delayed)["state"] == "cancelled"
        succeeded(client, kept)
        assert not queued.is_begun
        assert eventually(lambda: broker.ready(Lane.IO.queue_name) == 0, 30)
    measured.note("cancelled jobs that ran", 0)


def test_cancel_survives_the_restart_of_workers(
    place: Place, client: Client, measured: Measured
) -> None:
    """A cancelled job stays cancelled when its worker dies, and a running one stops.

    Fault: kill -9 of the worker between the cancel of a waiting job and its turn.
    """
    gate = Gate(place, "gate")
    with obedient_worker(place, Lane.IO, concurrency=1) as worker:
        running, waiting = fetch(client, gate.url), fetch(client, "http://answers.test/")
        gate.wait_until_begun()
        assert client.request("POST", f"/v1/jobs/{waiting}/cancel").status == 202
        worker.kill()
        gate.open()
        worker.start()
        succeeded(client, running)
        assert ended(client, waiting)["state"] == "cancelled"
        measured.note("attempts of the cancelled job", len(client.job(waiting)["attempts"]))


def test_running_job_stops_when_it_is_cancelled(
    place: Place, client: Client, measured: Measured
) -> None:
    """A running job stops soon after its cancel, and its worker takes the next.

    Fault: the cancel of a sum that takes 60 s.
    """
    with cpu_worker(place, sum_delay_seconds=60, cpu_concurrency=1) as worker:
        job = add(client, 1, 2)
        wait_for(client, job, "running")
        cancelled = time.monotonic()
        assert client.request("POST", f"/v1/jobs/{job}/cancel").status == 202
        assert ended(client, job, 30)["state"] == "cancelled"
        measured.seconds("stopped after", time.monotonic() - cancelled)
        assert worker.is_running()


def test_two_beats_submit_each_tick_once(
    place: Place, jobs: Jobs, broker: Broker, measured: Measured
) -> None:
    """A second beat does no harm: a tick is one job.

    Fault: two beats that have missed the same tick start at the same time.
    """
    # A tick is known by its minute.
    assert eventually(lambda: datetime.now(UTC).second < 45, 20)
    beats = [_beat_that_missed_a_tick(place, jobs, f"beat-{n}") for n in (1, 2)]
    together(*beats)
    # A beat that is stopped before can't know whether the broker has its message; the next one
    # publishes it again.
    assert eventually(lambda: any(map(jobs.is_confirmed, jobs.ids())), 30)
    for beat in beats:
        restart(beat)
        beat.stop()
    measured.note("jobs", len(jobs.ids()))
    assert len(jobs.ids()) == 1
    assert broker.ready(Lane.IO.queue_name) == 1


def _beat_that_missed_a_tick(place: Place, jobs: Jobs, name: str) -> BeatingService:
    state: Path = place.folder / f"{name}-state"
    jobs.celery.conf.beat_schedule = create_schedule([])
    scheduler = JobScheduler(
        jobs.celery,
        submitter=jobs.submitter,
        heartbeat_file=None,
        schedule_filename=str(state),
        lazy=True,
    )
    scheduler.setup_schedule()
    scheduler.schedule["purge-files"].last_run_at = datetime.now(UTC) - timedelta(hours=2)
    scheduler.sync()
    scheduler.close()
    return BeatingService(name, ["-m", "beat.main"], place, beat_state_file=state)


def test_topology_that_was_deleted_comes_back(
    place: Place, client: Client, broker: Broker, measured: Measured
) -> None:
    """A broker that has lost everything gets it back from the services that run.

    Fault: both lanes' queues and the exchange are deleted under the API and a worker.
    """
    with obedient_worker(place, Lane.IO) as worker:
        succeeded(client, fetch(client, "http://answers.test/before"))
        # Otherwise RabbitMQ 3.10 may forget the consumer, see test_workers.py.
        LaneQueue(broker, Lane.IO).wait_until_empty()
        with broker.channel() as channel:
            for lane in Lane:
                channel.queue_delete(lane.queue_name)
            channel.exchange_delete("jobs")
        deleted = time.monotonic()
        succeeded(client, fetch(client, "http://answers.test/after"), 120)
        measured.seconds("next job done after", time.monotonic() - deleted)
        assert worker.is_running()
