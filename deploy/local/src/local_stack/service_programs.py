"""The parts of the stack as programs: what runs each, what it may know, when it is ready."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from api.settings import ApiSettings
from beat.settings import BeatSettings
from contracts.settings import SharedSettings
from local_stack.ports import free_ports, is_listening
from local_stack.private_servers import USER, RabbitMQServer, RedisServer
from local_stack.programs import Program, basic_env
from local_stack.settings import StackSettings
from local_stack.stack_folder import LOG
from worker_cpu.settings import WorkerCpuSettings
from worker_io.settings import WorkerIoSettings

HOST: Final = "127.0.0.1"

SERVICE_SETTINGS: Final[Mapping[str, type[SharedSettings]]] = {
    "api": ApiSettings,
    "worker-io": WorkerIoSettings,
    "worker-cpu": WorkerCpuSettings,
    "beat": BeatSettings,
}
"""The services, each with the settings that its program reads."""

STORAGE_VARIABLES: Final = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ALLOW_HTTP",
    }
)
"""What the client of an S3 storage reads from the environment by itself."""

WITHOUT_STORAGE: Final = frozenset({"beat"})
"""Services that open no storage, and so need no credentials of it."""

NICENESS: Final = {"worker-cpu": 15}
"""Who yields the processor to the others, as `cpu_shares` says with Docker: calls go first."""

_FETCH_LISTS: Final = ("FETCH_ALLOWED_HOSTS", "FETCH_PRIVATE_HOSTS")
"""Where the stack's own httpbin must be, beside what a person puts there."""

_DEFAULT_RECIPIENTS: Final[str] = ApiSettings.model_fields["report_allowed_recipients"].default


def variables_of(service: str) -> frozenset[str]:
    """Return the names of the variables that a service gets: it gets no others of the stack's."""
    own = frozenset(name.upper() for name in SERVICE_SETTINGS[service].model_fields)
    return own if service in WITHOUT_STORAGE else own | STORAGE_VARIABLES


@dataclass(frozen=True)
class LocalStack:
    """Everything that runs when Docker does not."""

    settings: StackSettings
    folder: Path
    rabbitmq: RabbitMQServer
    redis: RedisServer
    smtp_port: int

    @classmethod
    def at(cls, folder: Path, settings: StackSettings) -> "LocalStack":
        """Lay out a stack that keeps everything of its own in `folder`."""
        chosen = settings.ports_without_docker().get("RABBITMQ_MANAGEMENT_PORT")
        deploy = settings.root / "deploy"
        return cls(
            settings=settings,
            folder=folder,
            rabbitmq=RabbitMQServer(folder / "rabbitmq", chosen, project=deploy / "rabbitmq"),
            redis=RedisServer(folder / "redis", config=deploy / "redis" / "redis.conf"),
            smtp_port=free_ports(1)[0],
        )

    @property
    def api_url(self) -> str:
        """Base URL of the API."""
        return f"http://{HOST}:{self.settings.api_port}"

    @property
    def mail_folder(self) -> Path:
        """Return the Maildir that keeps all mail."""
        return self.folder / "mail"

    def places(self) -> dict[str, str]:
        """Return where a person looks, by what is there."""
        settings, rabbitmq = self.settings, self.rabbitmq
        user, _, password = settings.flower_basic_auth.partition(":")
        return {
            "API": f"{self.api_url}/docs",
            "Flower": f"http://{HOST}:{settings.flower_port} (user {user}, password {password})",
            "Mail": f"{self.mail_folder} (a Maildir)",
            "RabbitMQ": f"http://{HOST}:{rabbitmq.management_port} "
            f"(user {USER}, password {rabbitmq.password})",
            "httpbin": f"http://{HOST}:{settings.httpbin_port}",
            "Log": f"{self.folder / LOG} (`make logs`)",
        }

    def stages(self) -> list[list[Program]]:
        """Return the programs, in stages that need the stage before."""
        epmd, rabbitmq = self.rabbitmq.programs()
        backing = [epmd, *self.redis.programs(), self._mail_server(), self._httpbin()]
        return [
            backing,
            [rabbitmq],
            [self._api(), *self._workers(), self._with_heartbeat("beat", "beat")],
            [self._flower()],  # asks the workers about themselves when it starts
        ]

    def _api(self) -> Program:
        return self._service("api", "api", is_ready=lambda: _answers(f"{self.api_url}/readyz"))

    def _workers(self) -> Iterable[Program]:
        counts = {"worker-io": self.settings.io_workers, "worker-cpu": self.settings.cpu_workers}
        for kind, count in counts.items():
            for number in range(1, count + 1):
                yield self._with_heartbeat(kind, kind if count == 1 else f"{kind}-{number}")

    def _with_heartbeat(self, kind: str, name: str) -> Program:
        """Return a service that touches a file while it is connected."""
        folder = self.folder / name
        heartbeat, scratch = folder / "heartbeat", folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        heartbeat.unlink(missing_ok=True)
        own = {
            "HEARTBEAT_FILE": str(heartbeat),
            "SCRATCH_FOLDER": str(scratch),
            "BEAT_STATE_FILE": str(folder / "schedule"),
        }
        if chosen := self.settings.environment.get("WORKER_NAME"):
            own["WORKER_NAME"] = f"{chosen}-{name}"  # all are on one host: a name for each
        return self._service(kind, name, is_ready=heartbeat.exists, **own)

    def _service(
        self,
        kind: str,
        name: str,
        is_ready: Callable[[], bool],
        **own: str,
    ) -> Program:
        return Program(
            name=name,
            argv=[sys.executable, "-m", f"{kind.replace('-', '_')}.main"],
            env=self._environment(kind, own),
            cwd=self.folder / name,
            is_ready=is_ready,
            stop_within_seconds=self.settings.stop_grace_seconds,
            niceness=NICENESS.get(kind, 0),
        )

    def _environment(self, kind: str, own: Mapping[str, str]) -> dict[str, str]:
        """Return what a service gets: defaults, under the person's choices, under the wiring."""
        values = {**self._defaults(), **self.settings.environment, **self._wiring(kind), **own}
        return basic_env(**{name: values[name] for name in variables_of(kind) & values.keys()})

    def _defaults(self) -> dict[str, str]:
        return {
            "STORAGE_URL": (self.folder / "storage").as_uri(),
            # By itself, a worker sends reports to nobody: here, to whom the API accepts them for.
            "REPORT_ALLOWED_RECIPIENTS": _DEFAULT_RECIPIENTS,
        }

    def _wiring(self, kind: str) -> dict[str, str]:
        """Return what makes a service find the others."""
        chosen = self.settings.environment
        wiring = {
            "BROKER_URL": self.rabbitmq.broker_url_of(kind),
            "RESULT_URL": f"{self.redis.url}0",
            "RABBITMQ_MANAGEMENT_URL": self.rabbitmq.management_url_of("api"),
            "API_HOST": HOST,
            "API_PORT": str(self.settings.api_port),
            "HTTPBIN_URL": f"http://{HOST}:{self.settings.httpbin_port}",
            **{name: _and_chosen(HOST, chosen.get(name)) for name in _FETCH_LISTS},
        }
        if "SMTP_HOST" not in chosen:  # a real mail server is a person's to choose
            wiring |= {"SMTP_HOST": HOST, "SMTP_PORT": str(self.smtp_port)}
        return wiring

    def _mail_server(self) -> Program:
        return Program(
            name="mail",
            argv=[
                *(sys.executable, "-m", "aiosmtpd", "--nosetuid", "--smtputf8"),
                *("--listen", f"{HOST}:{self.smtp_port}"),
                *("--class", "aiosmtpd.handlers.Mailbox", str(self.mail_folder)),
            ],
            env=basic_env(),
            cwd=self.folder,
            is_ready=lambda: is_listening(self.smtp_port),
        )

    def _httpbin(self) -> Program:
        port = self.settings.httpbin_port
        return Program(
            name="httpbin",
            argv=[
                *(sys.executable, "-m", "gunicorn", "--bind", f"{HOST}:{port}"),
                # /delay holds a thread as long as it takes, and a worker calls a thousand at once.
                *("--workers", "2", "--worker-class", "gthread", "--threads", "1024"),
                *("--worker-connections", "2048", "--backlog", "2048", "--log-level", "warning"),
                "--no-control-socket",  # it would be in the person's home folder
                "httpbin:app",
            ],
            env=basic_env(),
            cwd=self.folder,
            is_ready=lambda: is_listening(port),
        )

    def _flower(self) -> Program:
        folder = self.folder / "flower"
        return Program(
            name="flower",
            argv=[sys.executable, "-m", "celery", "flower"],
            # Options by environment: a command line is for everybody to read.
            env=basic_env(
                BROKER_URL=self.rabbitmq.broker_url_of("flower"),
                FLOWER_ADDRESS=HOST,
                FLOWER_PORT=str(self.settings.flower_port),
                FLOWER_BASIC_AUTH=self.settings.flower_basic_auth,
                FLOWER_BROKER_API=f"{self.rabbitmq.management_url_of('flower')}/api/",
                FLOWER_PERSISTENT="true",
                FLOWER_DB=str(folder / "flower"),
                FLOWER_STATE_SAVE_INTERVAL="60000",
                FLOWER_MAX_TASKS="10000",
                FLOWER_PURGE_OFFLINE_WORKERS="60",
            ),
            cwd=folder,
            is_ready=lambda: _answers(f"http://{HOST}:{self.settings.flower_port}/healthcheck"),
            stop_within_seconds=self.settings.stop_grace_seconds,
        )


def _and_chosen(own: str, chosen: str | None) -> str:
    """Return a comma-separated list of what the stack itself needs and what a person added."""
    return ",".join(filter(None, [own, chosen]))


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=5).is_success
    except httpx2.HTTPError:
        return False
