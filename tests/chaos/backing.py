"""RabbitMQ and Redis of the chaos suite's own: containers where Docker answers, else processes.

Both keep their ports and their data over any end, which neither a mapped random port nor a fresh
container would.
"""

import os
import secrets
import signal
import subprocess
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import httpx2
import redis
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient

from chaos.victims import Victim
from local_stack.install import ensure_servers, find_program
from local_stack.ports import free_ports
from local_stack.private_servers import USER, PrivateServer, RabbitMQServer, RedisServer
from servers import RABBITMQ_IMAGE, REDIS_IMAGE, RabbitMQ, Redis, eventually, use_docker

_DEBIAN_RABBITMQCTL: Final = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
_READY_WITHIN_SECONDS: Final = 120
_STOP_SECONDS: Final = 30


class _Process(Victim):
    """A private server: its last process is the server itself."""

    def __init__(self, server: PrivateServer) -> None:
        self._server = server

    def start(self) -> None:
        self._server.start()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._server.stop()  # what is left of it, and it is reaped

    def stop(self) -> None:
        self._server.stop()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def is_running(self) -> bool:
        return bool(self._server.pids)

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self._server.pids[-1], number)


class _Container(Victim):
    """A container that is started again instead of replaced."""

    def __init__(self, container: DockerContainer, is_ready: Callable[[], bool]) -> None:
        self._definition = container
        self._is_ready = is_ready
        self._container: Any = None  # docker has no types

    def start(self) -> None:
        if self._container is None:
            self._definition.start()
            self._container = self._definition.get_wrapped_container()
        else:
            self._container.start()
        ready = eventually(self._is_ready, _READY_WITHIN_SECONDS)
        assert ready, self._container.logs(tail=30).decode(errors="replace")

    def kill(self) -> None:
        self._container.kill()
        self._container.wait()

    def stop(self) -> None:
        self._container.stop(timeout=_STOP_SECONDS)

    def pause(self) -> None:
        self._container.pause()

    def resume(self) -> None:
        self._container.reload()
        if self._container.status == "paused":
            self._container.unpause()

    def is_running(self) -> bool:
        if self._container is None:
            return False
        self._container.reload()
        return bool(self._container.status in {"running", "paused"})

    def run(self, *command: str) -> str:
        code, output = self._container.exec_run(list(command))
        text: str = output.decode(errors="replace")
        assert code == 0, f"{command}: {text}"
        return text

    def remove(self) -> None:
        self._definition.stop()


class BreakableRabbitMQ(Victim):
    """RabbitMQ, its addresses, and what only a broker can suffer."""

    name = "RabbitMQ"
    server: RabbitMQ

    @abstractmethod
    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl and return what it prints."""

    def is_ready(self) -> bool:
        try:
            answer = httpx2.get(
                f"{self.server.management_url}/api/health/checks/port-listener/{self._inner_port}",
                timeout=5,
            )
        except httpx2.HTTPError:
            return False
        return answer.is_success

    @property
    @abstractmethod
    def _inner_port(self) -> int: ...

    def alarm(self) -> None:
        """Run out of memory, as far as publishers can see."""
        self._watermark = self.evaluate("vm_memory_monitor:get_vm_memory_high_watermark().")
        self.ctl("set_vm_memory_high_watermark", "0.000001")

    def calm(self) -> None:
        """End the alarm."""
        self.ctl("set_vm_memory_high_watermark", *_watermark_arguments(self._watermark))

    def evaluate(self, expression: str) -> str:
        """Evaluate an Erlang expression in the node."""
        return self.ctl("eval", expression).strip()

    def version(self) -> str:
        overview = httpx2.get(f"{self.server.management_url}/api/overview", timeout=10)
        return str(overview.raise_for_status().json()["rabbitmq_version"])


def _watermark_arguments(watermark: str) -> list[str]:
    """Turn what the node says of its limit, `0.4` or `{absolute,"600MiB"}`, into arguments."""
    if watermark.startswith("{absolute"):
        return ["absolute", watermark.partition(",")[2].strip('"}')]
    return [watermark]


class RabbitMQProcess(_Process, BreakableRabbitMQ):
    """RabbitMQ as a private child process."""

    def __init__(self, folder: Path) -> None:
        self._rabbitmq = RabbitMQServer(folder)
        super().__init__(self._rabbitmq)
        self.server = RabbitMQ(
            self._rabbitmq.host,
            self._rabbitmq.port,
            self._rabbitmq.management_port,
            USER,
            self._rabbitmq.password,
        )

    def ctl(self, *arguments: str) -> str:
        program = (
            str(_DEBIAN_RABBITMQCTL)
            if _DEBIAN_RABBITMQCTL.exists()
            else find_program("rabbitmqctl") or "rabbitmqctl"
        )
        done = subprocess.run(
            [program, "--quiet", *arguments],
            env=self._rabbitmq.programs()[-1].env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    @property
    def _inner_port(self) -> int:
        return self._rabbitmq.port


class RabbitMQContainer(_Container, BreakableRabbitMQ):
    """RabbitMQ in a container, with a host name and ports of its own to keep."""

    def __init__(self) -> None:
        password = secrets.token_hex(16)
        amqp, management = free_ports(2)
        container = (
            DockerContainer(RABBITMQ_IMAGE)
            .with_bind_ports(5672, amqp)
            .with_bind_ports(15672, management)
            .with_kwargs(hostname="chaos")  # its node's name, and so the name of its data
            .with_env("RABBITMQ_DEFAULT_USER", USER)
            .with_env("RABBITMQ_DEFAULT_PASS", password)
            .with_env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-rabbit collect_statistics_interval 1000 -rabbit quorum_tick_interval 1000",
            )
        )
        super().__init__(container, self.is_ready)
        self.server = RabbitMQ(docker_host(), amqp, management, USER, password)

    def ctl(self, *arguments: str) -> str:
        return self.run("rabbitmqctl", "--quiet", *arguments)

    @property
    def _inner_port(self) -> int:
        return 5672


class BreakableRedis(Victim):
    """Redis, its address, and what only a store can suffer."""

    name = "Redis"
    server: Redis

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(f"{self.server.url}0", socket_timeout=5)

    def is_ready(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def fill(self) -> None:
        """Leave no memory: reads work, writes do not."""
        with self.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")

    def drain(self) -> None:
        with self.client() as client:
            client.config_set("maxmemory", "0")

    def make_read_only(self) -> None:
        """Become the replica of nobody, as in a failover that went to the other one."""
        with self.client() as client:
            client.replicaof("127.0.0.1", "1")

    def make_writable(self) -> None:
        with self.client() as client:
            client.replicaof("NO", "ONE")

    def flush(self) -> None:
        """Forget everything."""
        with self.client() as client:
            client.flushall()

    def version(self) -> str:
        with self.client() as client:
            return str(cast("dict[str, Any]", client.info("server"))["redis_version"])


class RedisProcess(_Process, BreakableRedis):
    """Redis as a private child process."""

    def __init__(self, folder: Path) -> None:
        redis_server = RedisServer(folder)
        super().__init__(redis_server)
        self.server = Redis(redis_server.url)


class RedisInContainer(_Container, BreakableRedis):
    """Redis in a container, with a port of its own to keep."""

    def __init__(self) -> None:
        (port,) = free_ports(1)
        container = (
            DockerContainer(REDIS_IMAGE)
            .with_bind_ports(6379, port)
            .with_command(
                "redis-server --databases 256 --appendonly yes --save '' "
                "--maxmemory-policy noeviction"
            )
        )
        super().__init__(container, self.is_ready)
        self.server = Redis(f"redis://{docker_host()}:{port}/")


@contextmanager
def run_breakable_rabbitmq(folder: Path) -> Iterator[BreakableRabbitMQ]:
    """Start a RabbitMQ that may be hurt."""
    if use_docker():
        container = RabbitMQContainer()
        with _removed(container):
            container.start()
            yield container
        return
    ensure_servers()
    with RabbitMQProcess(folder) as process:
        yield process


@contextmanager
def run_breakable_redis(folder: Path) -> Iterator[BreakableRedis]:
    """Start a Redis that may be hurt."""
    if use_docker():
        container = RedisInContainer()
        with _removed(container):
            container.start()
            yield container
        return
    ensure_servers()
    with RedisProcess(folder) as process:
        yield process


@contextmanager
def _removed(container: _Container) -> Iterator[None]:
    try:
        yield
    finally:
        container.remove()


def docker_host() -> str:
    """Return the address at which containers' ports are."""
    return DockerClient().host()
