"""API_WORKERS: several processes serve one port, and are one API to whoever uses it."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from integration.broker import Broker
from integration.place import Place
from integration.services import Service
from local_stack.ports import free_ports
from servers import eventually
from twinlane_sdk.lanes import Lane

SUM = "/v1/tasks/cpu.sum_numbers/jobs"
NUMBERS = {"a": 1, "b": 2}


class TwoProcesses:
    """An API of two processes."""

    def __init__(self, place: Place) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.service = Service("api", ["-m", "api.main"], place, api_port=port, api_workers=2)
        self.service.wait_until(lambda: self.started() == 2)

    def pids(self) -> set[int]:
        """Return the ids of the processes that serve."""
        supervisor = self.service.pid
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        return {int(pid) for pid in children if b"spawn_main" in _command(int(pid))}

    def started(self) -> int:
        """Return how many processes have begun to serve so far."""
        return self.service.log.read_text().count("Application startup complete")

    @contextmanager
    def only(self, pid: int) -> Iterator[httpx2.Client]:
        """Yield a client whose requests one process answers: the other one hangs meanwhile."""
        (other,) = self.pids() - {pid}
        os.kill(other, signal.SIGSTOP)
        try:
            with httpx2.Client(base_url=self.url, timeout=30) as client:
                yield client
        finally:
            os.kill(other, signal.SIGCONT)


@pytest.fixture
def api(place: Place, broker: Broker) -> Iterator[TwoProcesses]:
    broker.declare()
    api = TwoProcesses(place)
    yield api
    api.service.stop()


def test_every_process_accepts_jobs_and_knows_those_of_the_others(
    api: TwoProcesses, broker: Broker
) -> None:
    one, other = api.pids()
    with api.only(one) as client:
        accepted = client.post(SUM, json=NUMBERS)
    with api.only(other) as client:
        seen = client.get(accepted.headers["Location"])
        assert client.post(SUM, json=NUMBERS).status_code == 202
    assert accepted.status_code == 202
    assert seen.json() == accepted.json()
    assert broker.ready(Lane.CPU.queue_name) == 2


def test_key_that_is_sent_to_all_processes_at_once_is_one_job(
    api: TwoProcesses, broker: Broker
) -> None:
    def submit(_: int) -> str:
        answer = httpx2.post(
            api.url + SUM, json=NUMBERS, headers={"Idempotency-Key": "once"}, timeout=30
        )
        return str(answer.json()["id"])

    with ThreadPoolExecutor(20) as clients:
        assert len(set(clients.map(submit, range(20)))) == 1
    assert broker.ready(Lane.CPU.queue_name) == 1


def test_process_that_dies_is_replaced(api: TwoProcesses) -> None:
    victim, survivor = api.pids()
    os.kill(victim, signal.SIGKILL)
    assert httpx2.get(f"{api.url}/livez", timeout=30).is_success
    assert eventually(lambda: api.started() == 3, 60)
    (replacement,) = api.pids() - {survivor}
    with api.only(replacement) as client:
        assert client.get("/livez").is_success


def test_sigterm_stops_every_process(api: TwoProcesses) -> None:
    pids = api.pids()
    api.service.terminate()
    assert api.service.exit_code() == 0
    assert not any(map(_is_running, pids))


def test_no_process_outlives_the_one_that_started_them(api: TwoProcesses) -> None:
    pids = api.pids()
    api.service.kill()
    assert eventually(lambda: not any(map(_is_running, pids)), 30)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def _is_running(pid: int) -> bool:
    return bool(_command(pid))
