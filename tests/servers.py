"""Real servers for tests: containers where Docker answers, private child processes elsewhere.

TWINLANE_TEST_SERVERS=docker or =local decides instead.
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import httpx2
import psutil
from aiosmtpd.controller import Controller
from testcontainers.community.redis import RedisContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

from local_stack.install import ensure_servers
from local_stack.ports import free_ports, is_listening
from local_stack.private_servers import USER, RabbitMQServer, RedisServer
from local_stack.programs import ChildProcess, Program, basic_env

RABBITMQ_IMAGE: Final = "rabbitmq:4.3-management"
REDIS_IMAGE: Final = "redis:8"
_REDIS_DATABASES: Final = 256


@dataclass(frozen=True)
class RabbitMQ:
    """A running RabbitMQ."""

    host: str
    port: int
    management_port: int
    user: str
    password: str = field(repr=False)

    @property
    def management_url(self) -> str:
        return f"http://{self.user}:{self.password}@{self.host}:{self.management_port}"

    def broker_url(self, vhost: str) -> str:
        return f"amqp://{self.user}:{self.password}@{self.host}:{self.port}/{vhost}"

    @contextmanager
    def vhost(self) -> Iterator[str]:
        """A virtual host of one's own: nothing in it before, nothing of it left after."""
        name = f"test-{secrets.token_hex(4)}"
        with httpx2.Client(base_url=f"{self.management_url}/api", timeout=30) as api:
            everything = {"configure": ".*", "write": ".*", "read": ".*"}
            api.put(f"/vhosts/{name}", json={}).raise_for_status()
            try:
                api.put(f"/permissions/{name}/{self.user}", json=everything).raise_for_status()
                yield name
            finally:
                api.delete(f"/vhosts/{name}").raise_for_status()


@dataclass
class Redis:
    """A running Redis. Each test takes the next database, so late writers disturb nobody."""

    url: str = field(repr=False)
    _next: int = 0

    def database_url(self) -> str:
        self._next += 1
        return f"{self.url}{self._next % _REDIS_DATABASES}"


def use_docker() -> bool:
    """Return whether servers are to be containers."""
    wanted = os.environ.get("TWINLANE_TEST_SERVERS", "")
    if wanted not in {"", "docker", "local"}:
        raise ValueError(f"TWINLANE_TEST_SERVERS is {wanted!r}: it must be docker or local")
    return wanted == "docker" or (wanted == "" and docker_answers())


def docker_answers() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def run_rabbitmq(folder: Path) -> Iterator[RabbitMQ]:
    with _rabbitmq_container() if use_docker() else _rabbitmq_process(folder) as server:
        yield server


@contextmanager
def _rabbitmq_process(folder: Path) -> Iterator[RabbitMQ]:
    ensure_servers()
    with RabbitMQServer(folder) as server:
        yield RabbitMQ(server.host, server.port, server.management_port, USER, server.password)


@contextmanager
def _rabbitmq_container() -> Iterator[RabbitMQ]:
    password = secrets.token_hex(16)
    container = (
        DockerContainer(RABBITMQ_IMAGE)
        .with_exposed_ports(5672, 15672)
        .with_env("RABBITMQ_DEFAULT_USER", USER)
        .with_env("RABBITMQ_DEFAULT_PASS", password)
        # Queue figures are five seconds old by default.
        .with_env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-rabbit collect_statistics_interval 1000")
        .waiting_for(
            HttpWaitStrategy(15672, "/api/health/checks/port-listener/5672")
            .with_basic_credentials(USER, password)
            .with_startup_timeout(120)
        )
    )
    with container as running:
        host = running.get_container_host_ip()
        amqp, management = (running.get_exposed_port(port) for port in (5672, 15672))
        yield RabbitMQ(host, amqp, management, USER, password)


@contextmanager
def run_redis(folder: Path) -> Iterator[Redis]:
    if not use_docker():
        ensure_servers()
        with RedisServer(folder) as server:
            yield Redis(server.url)
        return
    container = RedisContainer(REDIS_IMAGE)
    # On disk as the private process, and as the one that the project deploys.
    container.with_command(f"redis-server --databases {_REDIS_DATABASES} --appendonly yes")
    with container as running:
        host, port = running.get_container_host_ip(), running.get_exposed_port(6379)
        yield Redis(f"redis://{host}:{port}/")


@contextmanager
def run_httpbin(folder: Path) -> Iterator[str]:
    """Serve the real httpbin and yield its base URL."""
    (port,) = free_ports(1)
    gunicorn = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "64"]
    program = Program(
        name="httpbin",
        argv=[*gunicorn, "--bind", f"127.0.0.1:{port}", "httpbin:app"],
        env=basic_env(),
        cwd=folder,
        is_ready=lambda: is_listening(port),
    )
    child = ChildProcess(program, folder / "httpbin.log")
    try:
        child.wait_until_ready()
        yield f"http://127.0.0.1:{port}"
    finally:
        child.stop()


class MailServer:
    """An SMTP server that keeps what it gets, and can be told to refuse."""

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        (self.port,) = free_ports(1)
        self.messages: list[EmailMessage] = []
        self.refusals: list[str] = []
        """Answers to give, one per mail, instead of accepting: `451 4.3.0 try later`."""
        self._controller = Controller(self, hostname=self.host, port=self.port)

    def to(self, address: str) -> list[EmailMessage]:
        """Return the messages whose envelope names this recipient, in order of arrival."""
        return [mail for mail in self.messages if address in mail["X-RcptTo"].split(", ")]

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self,
        server: Any,  # noqa: ANN401, ARG002 - aiosmtpd passes it
        session: Any,  # noqa: ANN401, ARG002 - the same
        envelope: Any,  # noqa: ANN401 - aiosmtpd has no types
    ) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        mail["X-RcptTo"] = ", ".join(envelope.rcpt_tos)
        self.messages.append(mail)
        return "250 OK"


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started, oldest first."""
    children = psutil.Process(pid).children()
    return [child.pid for child in sorted(children, key=psutil.Process.create_time)]


def eventually(condition: Callable[[], bool], within_seconds: float = 10) -> bool:
    """Wait until a condition holds, and return whether it does."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
