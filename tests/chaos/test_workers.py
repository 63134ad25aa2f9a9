"""Workers."""

# ruff: noqa: PLR0913, PLR0917 - fixtures are arguments

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Final

import pytest

from chaos.backing import BreakableRabbitMQ, BreakableRedis
from chaos.client import Client, in_threads
from chaos.faults import alarm, fill, flush, kill, partition, pause, read_only, restart, stop
from chaos.queues import LaneQueue
from chaos.reliability import Measured
from chaos.scene import Gate, add, ended, fetch, succeeded, wait_for
from chaos.services import (
    ApiService,
    BeatingService,
    Service,
    cpu_worker,
    io_worker,
    obedient_worker,
    together,
)
from contracts.topology import DEAD_LETTERS, DELIVERY_LIMIT
from e2e.client import TERMINAL
from integration.broker import Broker
from integration.place import Place
from integration.proxy import Proxy
from servers import eventually
from twinlane_sdk.lanes import Lane

POISON: Final = -1  # lane_worker.py
STUBBORN: Final = -3
VISIBLE_WITHIN_SECONDS: Final = 5.0
MACHINE_SLACK_SECONDS: Final = 5.0
HALF_OPEN_SECONDS: Final = 120  # two heartbeats of 30 s, and a look each 15 s


@pytest.fixture
def api(place: Place, broker: Broker) -> Iterator[ApiService]:  # noqa: ARG001 - declared
    with ApiService(place) as api:
        yield api


@pytest.fixture
def client(api: ApiService) -> Iterator[Client]:
    with Client(api.url) as client:
        yield client


@pytest.fixture
def api_for_test_hosts(place: Place, broker: Broker) -> Iterator[Client]:  # noqa: ARG001 - declared
    """A client of an API that lets the obedient worker's addresses in."""
    with (
        ApiService(place, fetch_allowed_hosts="*.test") as api,
        Client(api.url) as client,
    ):
        yield client


def test_job_survives_the_death_of_the_process_that_computes_it(
    place: Place, client: Client, measured: Measured
) -> None:
    """A job whose process is killed runs again and succeeds; the worker goes on.

    Fault: kill -9 of a pool child of the cpu worker while it computes.
    """
    with cpu_worker(place, sum_delay_seconds=4, cpu_concurrency=1) as worker:
        job = add(client, 2, 3)
        wait_for(client, job, "running")
        killed = time.monotonic()
        worker.kill_child()
        assert succeeded(client, job)["result"] == {"total": 5}
        measured.seconds("succeeded after", time.monotonic() - killed)
        assert worker.is_running()


@pytest.mark.parametrize("lane", Lane)
def test_job_survives_the_death_of_its_worker(
    lane: Lane, place: Place, api_for_test_hosts: Client, measured: Measured
) -> None:
    """A job whose worker is killed runs on another one and succeeds.

    Fault: kill -9 of the worker, main process and children, while it runs the job.
    """
    client = api_for_test_hosts
    measured.fault(f"kill -9 of the {lane} worker, with its children, while it runs the job.")
    gate = Gate(place, "gate")
    first, second = (_worker_of(lane, place, name) for name in ("first", "second"))
    with first:
        job = fetch(client, gate.url) if lane is Lane.IO else add(client, 2, 3)
        wait_for(client, job, "running")
        second.start()
        killed = time.monotonic()
        first.kill()
        gate.open()
        with_second = succeeded(client, job)
        measured.seconds("succeeded after", time.monotonic() - killed)
        assert "second" in second.name
        assert with_second["state"] == "succeeded"
    second.stop()


def _worker_of(lane: Lane, place: Place, name: str) -> BeatingService:
    if lane is Lane.IO:
        return obedient_worker(place, lane, name)
    return cpu_worker(place, name, sum_delay_seconds=3)


def test_poison_job_fails_visibly_and_the_lane_goes_on(
    place: Place, broker: Broker, client: Client, measured: Measured
) -> None:
    """A job that kills whoever runs it is given up, fails within 5 s of that, and stays in the
    dead letters; other jobs run on.

    Fault: a job that kills its process with SIGKILL each time.
    """
    with obedient_worker(place, Lane.CPU):
        poison = add(client, POISON, 0)
        dead = DEAD_LETTERS.name
        assert eventually(lambda: broker.ready(dead) == 1, 180), client.job(poison)
        died = time.monotonic()
        deaths = len((place.folder / f"{poison}.deaths").read_text())
        measured.note("deliveries", deaths)
        job = ended(client, poison, 30)
        seconds = time.monotonic() - died
        measured.seconds("failed after its last delivery", seconds)
        assert job["state"] == "failed"
        assert deaths == DELIVERY_LIMIT + 1
        assert succeeded(client, add(client, 1, 2))["result"] == {"total": 3}
        assert broker.ready(dead) == 1
        assert seconds < VISIBLE_WITHIN_SECONDS + MACHINE_SLACK_SECONDS


@pytest.mark.parametrize("lane", Lane)
def test_long_job_survives_a_restart_of_the_broker(
    lane: Lane,
    place: Place,
    rabbitmq: BreakableRabbitMQ,
    api_for_test_hosts: Client,
    broker: Broker,
    measured: Measured,
) -> None:
    """A job that runs while the broker dies ends as it should, and its message is gone.

    Fault: kill -9 of RabbitMQ while the job runs, and a new start.
    """
    client = api_for_test_hosts
    measured.fault(f"kill -9 of RabbitMQ while a job runs on the {lane} lane, and a new start.")
    gate = Gate(place, "gate")
    with _worker_of(lane, place, "worker") as worker:
        job = fetch(client, gate.url) if lane is Lane.IO else add(client, 2, 3)
        wait_for(client, job, "running")
        pid = worker.pid
        with kill(rabbitmq):
            pass
        back = time.time()
        assert eventually(lambda: worker.is_connected_since(back), 90), worker.tail()
        measured.seconds("worker back after", time.time() - back)
        gate.open()
        done = succeeded(client, job)
        LaneQueue(broker, lane).wait_until_empty()
        measured.note("runs", len(client.job(job)["attempts"]))
        assert done["state"] == "succeeded"
        assert worker.pid == pid
        assert worker.is_running()
        assert broker.ready(DEAD_LETTERS.name) == 0


def test_worker_notices_a_connection_that_died_silently(
    place: Place, to_rabbitmq: Proxy, client: Client, broker: Broker, measured: Measured
) -> None:
    """A worker whose connection is half-open finds out by itself and works again; what it had
    been given is not lost.

    Fault: a TCP proxy that swallows all packets of the worker's connections and closes none,
    while a job runs.
    """
    with cpu_worker(
        replace(place, broker_url=to_rabbitmq.url), sum_delay_seconds=2, cpu_concurrency=1
    ) as worker:
        held = add(client, 2, 3)
        wait_for(client, held, "running")
        cut = time.monotonic()
        to_rabbitmq.freeze()
        waiting = add(client, 3, 4)
        assert succeeded(client, waiting, HALF_OPEN_SECONDS)["result"] == {"total": 7}
        measured.seconds("works again after", time.monotonic() - cut)
        assert succeeded(client, held, HALF_OPEN_SECONDS)["result"] == {"total": 5}
        LaneQueue(broker, Lane.CPU).wait_until_empty(HALF_OPEN_SECONDS)
        measured.note("runs of the job that was running", len(client.job(held)["attempts"]))
        assert worker.is_running()


def test_workers_and_api_go_on_after_the_broker_has_hung(
    place: Place, rabbitmq: BreakableRabbitMQ, api: ApiService, client: Client, measured: Measured
) -> None:
    """A broker that hangs holds nobody up for longer than it hangs, and loses nothing.

    Fault: SIGSTOP of RabbitMQ for 20 s, jobs in its queues and submissions meanwhile.
    """
    with cpu_worker(place, sum_delay_seconds=0.2) as worker:
        before = [add(client, n, n) for n in range(30)]
        meanwhile: list[str] = []
        with pause(rabbitmq):
            patient = threading.Thread(target=lambda: _submit_patiently(api, meanwhile))
            patient.start()
            assert not eventually(lambda: bool(meanwhile), 20), "accepted by a hanging broker"
        resumed = time.monotonic()
        patient.join()
        measured.seconds("accepted again after", time.monotonic() - resumed)
        for job in [*before, *meanwhile]:
            succeeded(client, job)
        measured.note("jobs", len(before) + len(meanwhile))
        assert worker.is_running()


def _submit_patiently(api: ApiService, accepted: list[str]) -> None:
    with Client(api.url) as patient:
        accepted.append(add(patient, 1, 1))


def test_workers_drain_during_a_memory_alarm(
    place: Place, rabbitmq: BreakableRabbitMQ, client: Client, broker: Broker, measured: Measured
) -> None:
    """Workers go on draining their lanes while the broker takes no new jobs, and jobs are
    accepted again when the alarm ends, all without a restart.

    Fault: RabbitMQ's memory alarm with 300 jobs waiting.
    """
    waiting = [add(client, n, n) for n in range(300)]
    with cpu_worker(place) as worker:
        with alarm(rabbitmq):
            began = time.monotonic()
            for job in waiting:
                succeeded(client, job)
            measured.seconds("300 jobs drained in", time.monotonic() - began)
            refused = client.request("POST", "/send-task/?a=1&b=2")
            assert refused.status == 503
            measured.seconds("POST refused in", refused.seconds)
        calm = time.monotonic()
        succeeded(client, add(client, 1, 2))
        measured.seconds("a new job done after the alarm in", time.monotonic() - calm)
        assert worker.is_running()
    LaneQueue(broker, Lane.CPU).wait_until_empty()


def test_retry_and_next_stage_survive_a_memory_alarm(
    place: Place, rabbitmq: BreakableRabbitMQ, api_for_test_hosts: Client, measured: Measured
) -> None:
    """A job that must publish while the broker takes nothing ends as it should afterwards.

    Fault: RabbitMQ's memory alarm while one job must be retried and another's next stage sent.
    """
    client = api_for_test_hosts
    retried = fetch(client, "http://fails-before.test/2")
    report = client.submit("io.send_report", {"email": "ana@empresa.com"})
    with alarm(rabbitmq):
        workers = [obedient_worker(place, lane) for lane in Lane]
        together(*workers)
        # Until each has tried to publish, and has given up at least once.
        assert not eventually(lambda: client.job(retried)["state"] in TERMINAL, 15)
    calm = time.monotonic()
    for job in (retried, report):
        succeeded(client, job)
    measured.seconds("both ended after the alarm in", time.monotonic() - calm)
    for worker in workers:
        worker.stop()


def test_worker_takes_jobs_again_after_its_queue_was_deleted(
    place: Place, client: Client, broker: Broker, measured: Measured
) -> None:
    """A deleted queue comes back by itself, and its worker consumes from it.

    Fault: somebody deletes the lane's queue under a worker.
    """
    with cpu_worker(place) as worker:
        succeeded(client, add(client, 1, 2))
        # RabbitMQ 3.10 now and then forgets to cancel the consumer whose acknowledgement comes
        # in the very moment of the deletion; then nobody can know.
        LaneQueue(broker, Lane.CPU).wait_until_empty()
        broker.delete_queue(Lane.CPU.queue_name)
        deleted = time.monotonic()
        assert succeeded(client, add(client, 2, 3))["result"] == {"total": 5}
        measured.seconds("next job done after", time.monotonic() - deleted)
        assert worker.is_running()


def test_full_lane_is_drained_and_takes_jobs_again(
    place: Place, client: Client, broker: Broker, measured: Measured
) -> None:
    """A full lane refuses jobs and keeps those it has; when workers have made room it accepts.

    Fault: a policy that allows one message, and no worker at first.
    """
    accepted = [add(client, n, n) for n in range(20)]
    with fill(LaneQueue(broker, Lane.CPU)):
        answers = []

        def is_full() -> bool:
            answers.append(client.request("POST", "/send-task/?a=1&b=2"))
            return answers[-1].code == "lane-full"

        assert eventually(is_full, 30), answers[-1]
        accepted += [answer.body["task_id"] for answer in answers[:-1]]
        with cpu_worker(place):
            began = time.monotonic()
            accepted.append(add(client, 7, 7))
            measured.seconds("accepted again after", time.monotonic() - began)
            for job in accepted:
                succeeded(client, job)
            measured.note("jobs", len(accepted))


@contextmanager
def _restarted(redis: BreakableRedis) -> Iterator[None]:
    restart(redis)
    yield


REDIS_FAULTS: Final[dict[str, Callable[[BreakableRedis], AbstractContextManager[None]]]] = {
    "Redis is restarted": _restarted,
    "Redis is killed": kill,
    "Redis hangs for 12 s": pause,
    "Redis is out of memory for 12 s": fill,
    "Redis is read-only for 12 s": read_only,
}


@pytest.mark.parametrize("fault", REDIS_FAULTS, ids=lambda fault: fault.replace(" ", "-"))
def test_results_are_not_lost_with_redis(
    fault: str,
    place: Place,
    redis: BreakableRedis,
    api_for_test_hosts: Client,
    broker: Broker,
    measured: Measured,
) -> None:
    """Jobs that start or end while Redis can't be written wait for it and end as they should.

    Fault: one of five, with one job running and ten waiting.
    """
    client = api_for_test_hosts
    measured.fault(f"{fault}, with one job running and ten waiting.")
    gate = Gate(place, "gate")
    with obedient_worker(place, Lane.IO) as worker:
        running = fetch(client, gate.url)
        gate.wait_until_begun()
        waiting = [fetch(client, f"http://answers.test/{n}") for n in range(10)]
        more = [fetch(client, f"http://fails-before.test/{n}") for n in (2, 2)]
        with REDIS_FAULTS[fault](redis):
            gate.open()
            if "12 s" in fault:
                assert not eventually(lambda: not worker.is_running(), 12), worker.tail()
        healed = time.monotonic()
        for job in [running, *waiting, *more]:
            succeeded(client, job)
        measured.seconds("all ended after", time.monotonic() - healed)
        LaneQueue(broker, Lane.IO).wait_until_empty()
        assert broker.ready(DEAD_LETTERS.name) == 0
        succeeded(client, fetch(client, "http://answers.test/after"))


def test_forgotten_jobs_are_not_found_and_work_goes_on(
    place: Place,
    redis: BreakableRedis,
    api_for_test_hosts: Client,
    broker: Broker,
    measured: Measured,
) -> None:
    """When Redis has lost everything, old ids are 404 (never a PENDING without end), what was
    queued still runs, and new jobs work.

    Fault: FLUSHALL with one job running and ten waiting.
    """
    client = api_for_test_hosts
    gate = Gate(place, "gate")
    with obedient_worker(place, Lane.IO, concurrency=1) as worker:
        running = fetch(client, gate.url)
        gate.wait_until_begun()
        waiting = [fetch(client, f"http://answers.test/{n}") for n in range(10)]
        flush(redis)
        gate.open()
        LaneQueue(broker, Lane.IO).wait_until_empty()
        answers = [client.request("GET", f"/v1/jobs/{job}") for job in [running, *waiting]]
        measured.note("forgotten jobs answered with", ", ".join({str(a.status) for a in answers}))
        assert {answer.status for answer in answers} == {404}
        succeeded(client, fetch(client, "http://answers.test/after"))
        assert broker.ready(DEAD_LETTERS.name) == 0
        assert worker.is_running()


def test_job_longer_than_the_consumer_timeout_ends_the_loop_not_the_worker(
    place: Place, rabbitmq: BreakableRabbitMQ, client: Client, broker: Broker, measured: Measured
) -> None:
    """A worker whose consumer the broker has cancelled takes jobs again, and the job that was
    too long does not run for ever.

    Fault: a job of 12 s with RabbitMQ's consumer timeout at 3 s.
    """
    names = ("consumer_timeout", "channel_tick_interval")
    before = {name: rabbitmq.evaluate(f"application:get_env(rabbit, {name}).") for name in names}
    rabbitmq.evaluate("application:set_env(rabbit, consumer_timeout, 3000).")
    rabbitmq.evaluate("application:set_env(rabbit, channel_tick_interval, 1000).")
    try:
        with cpu_worker(place, sum_delay_seconds=12, cpu_concurrency=1) as worker:
            long = add(client, 2, 3)
            began = time.monotonic()
            job = ended(client, long, 150)
            measured.note("the long job", f"{job['state']}, {len(job['attempts'])} attempts")
            LaneQueue(broker, Lane.CPU).wait_until_empty(120)
            measured.seconds("its message gone after", time.monotonic() - began)
            assert worker.is_running()
    finally:
        restart(rabbitmq)  # its settings are those of the file again
    assert before.keys() == set(names)
    with cpu_worker(place):
        succeeded(client, add(client, 1, 2))


def test_job_that_ignores_its_deadline_is_ended(
    place: Place, client: Client, broker: Broker, measured: Measured
) -> None:
    """A job that works on after its deadline is killed and failed once; its worker goes on.

    Fault: a task that swallows the soft limit of 1 s; the hard one is 30 s later.
    """
    with obedient_worker(place, Lane.CPU, deadline_seconds=1, concurrency=1):
        began = time.monotonic()
        job = ended(client, add(client, STUBBORN, 0), 90)
        measured.seconds("ended after", time.monotonic() - began)
        assert job["state"] == "failed"
        assert job["error"]["code"] == "deadline-exceeded"
        succeeded(client, add(client, 1, 2))
        LaneQueue(broker, Lane.CPU).wait_until_empty()


def test_sigterm_under_load_loses_and_repeats_nothing(
    place: Place, api_for_test_hosts: Client, broker: Broker, measured: Measured
) -> None:
    """A worker that is asked to stop finishes what runs, gives back the rest, and ends with 0.

    Fault: SIGTERM with four jobs running and 60 waiting.
    """
    client = api_for_test_hosts
    gates = [Gate(place, f"gate-{n}") for n in range(4)]
    with obedient_worker(place, Lane.IO, "first", concurrency=4) as first:
        running = [fetch(client, gate.url) for gate in gates]
        for gate in gates:
            gate.wait_until_begun()
        waiting = [fetch(client, f"http://answers.test/{n}") for n in range(60)]
        first.terminate()
        asked = time.monotonic()
        for gate in gates:
            gate.open()
        assert first.exit_code() == 0
        measured.seconds("stopped after its last job's end", time.monotonic() - asked)
    states = {client.job(job)["state"] for job in running}
    assert states == {"succeeded"}
    with obedient_worker(place, Lane.IO, "second"):
        ends = [succeeded(client, job) for job in [*running, *waiting]]
    measured.note("jobs", len(ends))
    measured.note("lost", 0)
    repeated = [job for job in ends if len(job["attempts"]) > 1]
    measured.note("repeated", len(repeated))
    assert not repeated, repeated
    LaneQueue(broker, Lane.IO).wait_until_empty()


def test_rolling_restart_under_load_loses_and_repeats_nothing(
    place: Place, httpbin: str, broker: Broker, measured: Measured
) -> None:
    """Workers can be replaced one after the other while jobs keep coming.

    Fault: SIGTERM and a new start of each of four workers, under load from six clients.
    """
    workers: list[Service] = [
        *(io_worker(place, f"io-{n}", fetch_allowed_hosts="127.0.0.1") for n in (1, 2)),
        *(cpu_worker(place, f"cpu-{n}", sum_delay_seconds=0.1) for n in (1, 2)),
    ]
    replaced = threading.Event()
    ids: list[str] = []
    service = ApiService(place)

    def submit(number: int) -> None:
        with Client(service.url) as client:
            while not replaced.is_set():
                ids.append(add(client, number, number))
                ids.append(fetch(client, f"{httpbin}/status/404"))
                time.sleep(0.05)

    with service, Client(service.url) as client:
        together(*workers)
        clients = threading.Thread(target=in_threads, args=[6, submit])
        clients.start()
        try:
            for worker in workers:
                with stop(worker):
                    assert worker.exit_code() == 0, worker.tail()
        finally:
            replaced.set()
            clients.join()
        ends = [succeeded(client, job) for job in ids]
        for worker in workers:
            worker.stop()
    measured.note("jobs", len(ends))
    repeated = [job for job in ends if len(job["attempts"]) > 1]
    measured.note("repeated", len(repeated))
    assert not repeated, repeated
    assert broker.ready(DEAD_LETTERS.name) == 0


def test_partition_of_redis_holds_nobody_up_for_ever(
    place: Place, to_redis: Proxy, client: Client, measured: Measured
) -> None:
    """A worker that Redis does not answer tries again until it does.

    Fault: a TCP proxy between worker and Redis that passes nothing on for 15 s.
    """
    with cpu_worker(replace(place, result_url=to_redis.url), sum_delay_seconds=1) as worker:
        jobs = [add(client, n, n) for n in range(6)]
        wait_for(client, jobs[0], "running")
        with partition(to_redis):
            assert not eventually(lambda: not worker.is_running(), 15), worker.tail()
        healed = time.monotonic()
        for job in jobs:
            succeeded(client, job)
        measured.seconds("all ended after", time.monotonic() - healed)
