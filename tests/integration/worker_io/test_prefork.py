"""The worker of the io lane as it is deployed: several processes under one."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from contracts.states import JobState
from integration.broker import Broker
from integration.jobs import Jobs
from integration.place import Place
from integration.services import Service
from integration.worker_io.conftest import Httpbin
from servers import children_of, eventually
from twinlane_tasks.http import FETCH_URL

LONGEST_BETWEEN_HEARTBEATS = 7.0
"""Seconds; a connected process has one every five."""


class Worker(Service):
    """`python -m worker_io.main`, with two processes."""

    def __init__(self, place: Place, name: str = "worker-io", **settings: object) -> None:
        self.heartbeat = place.folder / f"{name}.heartbeat"
        own = {"heartbeat_file": self.heartbeat, "fetch_private_hosts": "127.0.0.1"}
        allowed = {"fetch_allowed_hosts": "127.0.0.1", "io_concurrency": 8}
        super().__init__(name, ["-m", "worker_io.main"], place, **own | allowed | settings)

    def processes(self) -> list[int]:
        """Return the ids of the child processes, oldest first."""
        return children_of(self.pid)

    def age(self) -> float:
        """Return how old the heartbeat file is, in seconds."""
        return time.time() - self.heartbeat.stat().st_mtime


@contextmanager
def running_worker(place: Place, name: str = "worker-io", **settings: object) -> Iterator[Worker]:
    worker = Worker(place, name, **settings)
    try:
        worker.wait_until(worker.heartbeat.exists)
        yield worker
    finally:
        worker.stop()


def submit_calls(jobs: Jobs, count: int, url: str) -> list[str]:
    return [jobs.submit(FETCH_URL, url=url) for _ in range(count)]


def is_gone(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return False
    return True


def test_worker_is_ready_when_each_of_its_processes_consumes(place: Place) -> None:
    with running_worker(place, io_processes=3) as worker, Broker(place).channel() as channel:
        assert len(worker.processes()) == 3
        assert channel.queue_declare("jobs.io", passive=True).consumer_count == 3


def test_threads_are_started_before_the_first_job(place: Place) -> None:
    with running_worker(place, io_concurrency=100) as worker:
        threads = [len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in worker.processes()]
    assert min(threads) >= 100


def test_sigterm_under_load_loses_nothing_and_runs_nothing_twice(
    place: Place, jobs: Jobs, httpbin: Httpbin
) -> None:
    submitted = submit_calls(jobs, 40, f"{httpbin.url}/delay/2")
    with running_worker(place) as worker:
        assert eventually(lambda: len(httpbin.paths) == 2 * 8, 30)
        worker.terminate()
        assert worker.exit_code() == 0
    ended = [job_id for job_id in submitted if jobs.status(job_id).state is JobState.SUCCEEDED]
    assert len(ended) == len(httpbin.paths)
    with running_worker(place):
        for job_id in submitted:
            assert jobs.outcome(job_id).state is JobState.SUCCEEDED
    assert [len(jobs.attempts(job_id)) for job_id in submitted] == [1] * 40
    assert len(httpbin.paths) == 40


def test_process_that_is_killed_is_started_again_and_its_jobs_run(
    place: Place, jobs: Jobs, httpbin: Httpbin
) -> None:
    with running_worker(place) as worker:
        before = worker.processes()
        submitted = submit_calls(jobs, 12, f"{httpbin.url}/delay/1")
        assert eventually(lambda: len(httpbin.paths) == 12, 30)
        os.kill(before[0], signal.SIGKILL)
        assert eventually(lambda: len(set(worker.processes()) - {before[0]}) == 2, 30)
        for job_id in submitted:
            assert jobs.outcome(job_id).state is JobState.SUCCEEDED
        assert before[1] in worker.processes()
        assert "process 1 ended with exit code -9" in worker.log.read_text()


def test_heartbeat_file_grows_old_while_one_process_hangs(place: Place) -> None:
    with running_worker(place) as worker:
        hanging = worker.processes()[1]
        os.kill(hanging, signal.SIGSTOP)
        try:
            assert eventually(lambda: worker.age() > LONGEST_BETWEEN_HEARTBEATS, 30)
        finally:
            os.kill(hanging, signal.SIGCONT)
        assert eventually(lambda: worker.age() < LONGEST_BETWEEN_HEARTBEATS, 30)


def test_worker_whose_name_is_taken_says_so_once_and_ends(place: Place) -> None:
    with running_worker(place, worker_name="ana"):
        second = Worker(place, "second", worker_name="ana")
        assert second.exit_code() == 1
        said = [line for line in second.log.read_text().splitlines() if "CRITICAL" in line]
        assert len(said) == 1
        assert "a worker named ana-1@" in said[0]


def test_processes_end_when_their_parent_is_killed(place: Place) -> None:
    with running_worker(place) as worker:
        processes = worker.processes()
        worker.kill()
        assert eventually(lambda: all(map(is_gone, processes)), 30)


def test_number_of_processes_that_makes_no_sense_is_refused_in_one_line(place: Place) -> None:
    worker = Worker(place, io_processes=0)
    assert worker.exit_code() == 1
    said: str = Path(worker.log).read_text()
    assert said == (
        "worker-io: IO_PROCESSES: Input should be greater than or equal to 1 (it is '0')\n"
    )
