"""RabbitMQ as the stack has it: with the definitions, and so the users, of deploy/rabbitmq."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

from local_stack.install import ensure_servers
from local_stack.private_servers import SERVICE_USERS, USER, RabbitMQServer
from servers import RABBITMQ_IMAGE, use_docker

_PROJECT: Final = Path(__file__).parents[2] / "deploy/rabbitmq"


@dataclass(frozen=True)
class StackBroker:
    """A running one. Everything is in the default virtual host."""

    host: str
    port: int
    management_port: int
    passwords: dict[str, str] = field(repr=False)

    def broker_url(self, user: str = USER) -> str:
        return f"amqp://{user}:{self.passwords[user]}@{self.host}:{self.port}//"

    def management_url(self, user: str = USER) -> str:
        return f"http://{user}:{self.passwords[user]}@{self.host}:{self.management_port}"


@contextmanager
def run_stack_broker(folder: Path) -> Iterator[StackBroker]:
    with _container() if use_docker() else _process(folder) as broker:
        yield broker


@contextmanager
def _process(folder: Path) -> Iterator[StackBroker]:
    ensure_servers()
    with RabbitMQServer(folder, project=_PROJECT) as server:
        yield StackBroker(server.host, server.port, server.management_port, server.passwords)


@contextmanager
def _container() -> Iterator[StackBroker]:
    passwords = {user: secrets.token_hex(16) for user in (USER, *SERVICE_USERS)}
    variables = {
        f"RABBITMQ_{user.upper().replace('-', '_')}_PASS": passwords[user] for user in SERVICE_USERS
    }
    container = (
        DockerContainer(RABBITMQ_IMAGE)
        .with_exposed_ports(5672, 15672)
        .with_envs(RABBITMQ_DEFAULT_USER=USER, RABBITMQ_DEFAULT_PASS=passwords[USER], **variables)
        .with_volume_mapping(_PROJECT, "/opt/twinlane/rabbitmq")
        .with_volume_mapping(_PROJECT / "rabbitmq.conf", "/etc/rabbitmq/rabbitmq.conf")
        .with_tmpfs_mount("/tmp")  # noqa: S108 - in the container
        .with_kwargs(
            entrypoint=["/opt/twinlane/rabbitmq/start"],
            user="rabbitmq",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
        )
        .waiting_for(
            HttpWaitStrategy(15672, "/api/health/checks/port-listener/5672")
            .with_basic_credentials(USER, passwords[USER])
            .with_startup_timeout(120)
        )
    )
    with container as running:
        amqp, management = (running.get_exposed_port(port) for port in (5672, 15672))
        yield StackBroker(running.get_container_host_ip(), amqp, management, passwords)
