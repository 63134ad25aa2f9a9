"""Private RabbitMQ and Redis servers: child processes on free loopback ports, in a given folder.

Several can run at once, beside system services too, and whoever starts one needs no root. A
folder used again has its data again.
"""

import secrets
import socket
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx2

from local_stack.install import MissingProgramError, find_program
from local_stack.ports import free_ports, is_free
from local_stack.programs import ChildProcess, Program, basic_env

USER: Final = "twinlane"
"""Who may do everything."""
SERVICE_USERS: Final = ("api", "worker-io", "worker-cpu", "beat", "flower")
"""The users of RabbitMQ that the project's definitions have, besides."""

# The wrapper that Debian puts on PATH switches to the user rabbitmq (who may not be able to reach
# our folder) and refuses everybody but root. The script behind it does neither.
_DEBIAN_RABBITMQ: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class PrivateServer(ABC):
    """One server made of one or more child processes. A context manager: ready inside."""

    host: Final = "127.0.0.1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._children: list[ChildProcess] = []

    @abstractmethod
    def programs(self) -> list[Program]:
        """Write the configuration and return the programs to run, in order."""

    def start(self) -> None:
        """Start and wait until it is ready.

        Raises:
            NotReadyError: a process ended or took too long.
            MissingProgramError: the program is not on this machine.

        """
        try:
            for program in self.programs():
                child = ChildProcess(program, self.folder / f"{program.name}.log")
                self._children.append(child)
                child.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop cleanly, last process first. The folder stays."""
        while self._children:
            self._children.pop().stop()

    @property
    def pids(self) -> list[int]:
        """Process ids, in the order of starting."""
        return [child.pid for child in self._children]

    def _password(self, name: str = "password") -> str:
        # Kept beside the data, which knows it too.
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(16))
        return path.read_text()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class RabbitMQServer(PrivateServer):
    """RabbitMQ 3.10 or later with its management plugin and its own epmd.

    `project` is a folder with the project's rabbitmq.conf, which counts under the settings of a
    private server, and with its definitions, which bring SERVICE_USERS.
    """

    def __init__(
        self, folder: Path, management_port: int | None = None, project: Path | None = None
    ) -> None:
        super().__init__(folder)
        self._project = project
        self.port, free, self._dist_port, self._epmd_port = free_ports(4)
        self.management_port = management_port or free
        self.password = self._password()
        self.passwords = {USER: self.password}
        if project:
            self.passwords |= {user: self._password(f"password-{user}") for user in SERVICE_USERS}

    @property
    def ports(self) -> list[int]:
        """Every port that the server's processes listen on."""
        return [self.port, self.management_port, self._dist_port, self._epmd_port]

    @property
    def broker_url(self) -> str:
        """AMQP URL of the default vhost."""
        return self.broker_url_of(USER)

    def broker_url_of(self, user: str) -> str:
        """Return the AMQP URL of the default vhost for a user."""
        return f"amqp://{user}:{self.passwords[user]}@{self.host}:{self.port}//"

    @property
    def management_url(self) -> str:
        """URL of the management API's server, with user and password."""
        return self.management_url_of(USER)

    def management_url_of(self, user: str) -> str:
        """Return the URL of the management API's server for a user."""
        return f"http://{user}:{self.passwords[user]}@{self.host}:{self.management_port}"

    def programs(self) -> list[Program]:
        """Write the configuration and return epmd and the server."""
        self._configure()
        env = self._env()
        return [
            # RabbitMQ would start epmd as a daemon that outlives it.
            Program(
                name="epmd",
                argv=[_required("epmd"), "-port", str(self._epmd_port), "-address", self.host],
                env=env,
                cwd=self.folder,
                is_ready=lambda: not is_free(self._epmd_port),
            ),
            Program(
                name="rabbitmq",
                argv=[_rabbitmq_program()],
                env=env,
                cwd=self.folder,
                is_ready=self._is_ready,
                ready_within_seconds=120,
                stop_within_seconds=30,
            ),
        ]

    def _configure(self) -> None:
        config = self.folder / "rabbitmq.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"""\
{self._settings_of_the_project()}
listeners.tcp.1 = {self.host}:{self.port}
management.tcp.ip = {self.host}
management.tcp.port = {self.management_port}
default_user = {USER}
default_pass = {self.password}
# By default queue figures are five seconds old.
collect_statistics_interval = 1000
log.console = true
log.console.use_colors = off
log.console.level = warning
log.file = false
"""
        )
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management].\n")

    def _settings_of_the_project(self) -> str:
        if not self._project:
            return ""
        definitions = self.folder / "definitions"
        names = {f"RABBITMQ_{_variable(user)}_PASS": self.passwords[user] for user in SERVICE_USERS}
        names |= {"RABBITMQ_DEFAULT_USER": USER, "RABBITMQ_DEFAULT_PASS": self.password}
        subprocess.run(  # noqa: S603 - the project's own script
            [str(self._project / "render-definitions"), str(definitions)],
            env=basic_env(**names),
            check=True,
        )
        settings = (self._project / "rabbitmq.conf").read_text()
        return f"{settings}\nload_definitions = {definitions}"

    def _env(self) -> dict[str, str]:
        folder = str(self.folder)
        return basic_env(
            HOME=folder,  # of the Erlang cookie
            ERL_EPMD_PORT=str(self._epmd_port),
            ERL_EPMD_ADDRESS=self.host,
            RABBITMQ_NODENAME="twinlane@localhost",
            RABBITMQ_DIST_PORT=str(self._dist_port),
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=(
                "-kernel inet_dist_use_interface {127,0,0,1} "
                # How often a quorum queue counts, in ms: 5,000 by default.
                "-rabbit quorum_tick_interval 1000"
            ),
            RABBITMQ_BASE=folder,
            RABBITMQ_MNESIA_BASE=f"{folder}/data",
            RABBITMQ_LOG_BASE=f"{folder}/log",
            RABBITMQ_CONFIG_FILE=f"{folder}/rabbitmq.conf",
            RABBITMQ_ADVANCED_CONFIG_FILE=f"{folder}/none.config",
            RABBITMQ_CONF_ENV_FILE=f"{folder}/none.conf",
            RABBITMQ_ENABLED_PLUGINS_FILE=f"{folder}/enabled_plugins",
            RABBITMQ_FEATURE_FLAGS_FILE=f"{folder}/feature_flags",
            # Become the Erlang machine instead of waiting for it: signals then go straight there.
            RUNNING_UNDER_SYSTEMD="true",
        )

    def _is_ready(self) -> bool:
        url = (
            f"http://{self.host}:{self.management_port}/api/health/checks/port-listener/{self.port}"
        )
        try:
            return httpx2.get(url, auth=(USER, self.password), timeout=5).is_success
        except httpx2.HTTPError:
            return False


class RedisServer(PrivateServer):
    """Redis with an append-only file: what it has accepted survives a restart.

    `config` is a redis.conf with settings of the project's, under those of a private server.
    """

    def __init__(self, folder: Path, config: Path | None = None) -> None:
        super().__init__(folder)
        self._config = config
        (self.port,) = free_ports(1)
        self.password = self._password()

    @property
    def url(self) -> str:
        """URL of the server, to which a database number may be added."""
        return f"redis://:{self.password}@{self.host}:{self.port}/"

    def programs(self) -> list[Program]:
        """Write the configuration and return the server."""
        config = self.folder / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"""\
{self._config.read_text() if self._config else ""}
bind {self.host}
port {self.port}
requirepass {self.password}
dir "{self.folder}"
daemonize no
appendonly yes
save ""
databases 256
maxmemory-policy noeviction
"""
        )
        return [
            Program(
                name="redis",
                argv=[_required("redis-server"), str(config)],
                env=basic_env(),
                cwd=self.folder,
                is_ready=self._is_ready,
            )
        ]

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=5) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\nQUIT\r\n".encode())
                answers = connection.makefile().read()
        except OSError:
            return False
        return "+PONG" in answers


def _variable(user: str) -> str:
    return user.upper().replace("-", "_")


def _rabbitmq_program() -> str:
    return str(_DEBIAN_RABBITMQ) if _DEBIAN_RABBITMQ.exists() else _required("rabbitmq-server")


def _required(program: str) -> str:
    path = find_program(program)
    if path is None:
        raise MissingProgramError(f"{program} is not on this machine: run `make up` to install it")
    return path
