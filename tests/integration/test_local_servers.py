"""What runs where Docker does not: private servers, and the supervisor that owns them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import kombu
import pytest
import redis

from local_stack.install import ensure_servers
from local_stack.ports import is_listening
from local_stack.private_servers import RabbitMQServer, RedisServer
from servers import eventually

_SUPERVISE = """
import asyncio, json, sys
from pathlib import Path
from local_stack.private_servers import RabbitMQServer, RedisServer
from local_stack.supervisor import Screen, Supervisor

folder = Path(sys.argv[1])
rabbitmq, redis = RabbitMQServer(folder / "rabbitmq"), RedisServer(folder / "redis")
epmd, broker = rabbitmq.programs()

def write_down(pids):
    (folder / "new").write_text(json.dumps({"pids": pids, "ports": [*rabbitmq.ports, redis.port]}))
    (folder / "new").replace(folder / "ready.json")

screen = Screen(sys.stdout, [], colours=False)
stages = [[epmd, *redis.programs()], [broker]]
sys.exit(asyncio.run(Supervisor(stages, screen, write_down).run()))
"""


def _processes_in(folder: Path) -> list[str]:
    """Return the processes whose working directory is in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it ended meanwhile
            continue
    return found


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    ensure_servers()


class Supervised:
    """A supervisor of RabbitMQ and Redis, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SUPERVISE, str(folder)], stdout=log, stderr=log
            )
        ready = folder / "ready.json"
        assert eventually(
            lambda: ready.exists() or self.process.poll() is not None, within_seconds=60
        )
        state = json.loads(ready.read_text())
        self.pids: dict[str, int] = state["pids"]
        self.ports: list[int] = state["ports"]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    supervised = Supervised(tmp_path)
    assert all(map(is_listening, supervised.ports))
    yield supervised
    supervised.process.terminate()
    supervised.process.wait(60)


def test_two_brokers_at_once_serve_quorum_queues_and_do_not_collide(tmp_path: Path) -> None:
    with RabbitMQServer(tmp_path / "a") as a, RabbitMQServer(tmp_path / "b") as b:
        for server in (a, b):
            with kombu.Connection(server.broker_url) as connection:
                name = f"only-on-{server.port}"
                queue = kombu.Queue(name, queue_arguments={"x-queue-type": "quorum"})
                queue(connection.channel()).declare()
            queues = httpx2.get(f"{server.management_url}/api/queues").raise_for_status().json()
            assert [queue["name"] for queue in queues] == [name]
    assert not any(map(is_listening, [*a.ports, *b.ports]))
    assert _processes_in(tmp_path) == []


def test_broker_and_results_keep_their_data_over_a_restart(tmp_path: Path) -> None:
    rabbitmq, store = RabbitMQServer(tmp_path / "rabbitmq"), RedisServer(tmp_path / "redis")
    with rabbitmq, store:
        with kombu.Connection(rabbitmq.broker_url) as connection:
            _quorum(connection).put("still here")
        redis.Redis.from_url(store.url).set("key", "still here")
    with rabbitmq, store:
        with kombu.Connection(rabbitmq.broker_url) as connection:
            assert _quorum(connection).get(timeout=30).payload == "still here"
        assert redis.Redis.from_url(store.url).get("key") == b"still here"


def test_definitions_are_imported_whenever_the_broker_starts(tmp_path: Path) -> None:
    project = Path(__file__).parents[2] / "deploy/rabbitmq"
    rabbitmq = RabbitMQServer(tmp_path / "rabbitmq", project=project)
    with rabbitmq, httpx2.Client(base_url=f"{rabbitmq.management_url}/api") as api:
        api.delete("/queues/%2F/jobs.io").raise_for_status()
        api.put("/users/beat", json={"password": "changed", "tags": ""}).raise_for_status()
        api.put("/users/somebody", json={"password": "new", "tags": ""}).raise_for_status()
    with rabbitmq, httpx2.Client(base_url=f"{rabbitmq.management_url}/api") as api:
        names = {queue["name"] for queue in api.get("/queues/%2F").raise_for_status().json()}
        assert {"jobs.io", "jobs.cpu"} <= names
        with kombu.Connection(rabbitmq.broker_url_of("beat")) as connection:
            connection.connect()
        assert api.get("/users/somebody").is_success  # nothing is removed


def _quorum(connection: kombu.Connection) -> Any:  # noqa: ANN401 - kombu's SimpleQueue has no types
    return connection.SimpleQueue("kept", queue_args={"x-queue-type": "quorum"})


def test_servers_listen_on_the_loopback_address_and_refuse_strangers(tmp_path: Path) -> None:
    with (
        RabbitMQServer(tmp_path / "rabbitmq") as rabbitmq,
        RedisServer(tmp_path / "redis") as store,
    ):
        ports = {*rabbitmq.ports, store.port}
        addresses = {address for address, port in _listening_addresses() if port in ports}
        assert addresses <= {"0100007F", f"{'0' * 24}01000000"}  # 127.0.0.1 and ::1
        url = f"http://{rabbitmq.host}:{rabbitmq.management_port}/api/overview"
        assert httpx2.get(url, auth=("guest", "guest")).status_code == 401
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(host=store.host, port=store.port).ping()
    assert (tmp_path / "redis" / "redis.conf").stat().st_mode & 0o077 == 0


def _listening_addresses() -> list[tuple[str, int]]:
    """Return address and port, as /proc/net/tcp writes them, of every listening socket."""
    lines = [
        line.split()
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
    ]
    sockets = (line[1].split(":") for line in lines if line[3] == "0A")
    return [(address, int(port, 16)) for address, port in sockets]


def test_supervisor_stops_everything_on_sigterm(supervised: Supervised) -> None:
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.process.wait(60) == 0
    assert not any(map(is_listening, supervised.ports))
    assert _processes_in(supervised.folder) == []


def test_nothing_outlives_a_supervisor_that_is_killed(supervised: Supervised) -> None:
    supervised.process.kill()
    supervised.process.wait()
    assert eventually(lambda: not any(map(is_listening, supervised.ports)), within_seconds=30)
    assert eventually(lambda: _processes_in(supervised.folder) == [], within_seconds=30)


def test_end_of_a_server_is_named_and_ends_the_others(supervised: Supervised) -> None:
    os.kill(supervised.pids["redis"], signal.SIGKILL)
    assert supervised.process.wait(60) == 1
    assert "redis ended with exit code -9" in supervised.log
    assert "Ready to accept connections" in supervised.log.split("Its last lines:")[1]
    assert not any(map(is_listening, supervised.ports))
    assert _processes_in(supervised.folder) == []
