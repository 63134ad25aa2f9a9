"""The stack with Docker: `docker compose`, with the numbers of workers and clear port errors."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from local_stack.errors import StackError
from local_stack.ports import check_ports
from local_stack.settings import StackSettings


def docker_works() -> bool:
    """Return whether a Docker engine answers and knows compose."""
    return bool(shutil.which("docker")) and all(
        subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - fixed commands
        for command in (["docker", "info"], ["docker", "compose", "version"])
    )


def start(settings: StackSettings) -> dict[str, str]:
    """Build and start everything, wait until it is healthy, and return where to look.

    Raises:
        PortInUseError: a port is in use.
        StackError: compose failed; its own output has said why.

    """
    if not _container_ids(settings):
        check_ports(settings.ports_with_docker())
    _compose(
        settings,
        *("--progress", "plain", "up", "--build", "--wait"),
        *("--scale", f"worker-io={settings.io_workers}"),
        *("--scale", f"worker-cpu={settings.cpu_workers}"),
    )
    return _places(settings)


def stop(settings: StackSettings) -> bool:
    """Remove containers, networks and volumes; return whether there were any containers."""
    if not _container_ids(settings):
        return False
    _compose(settings, "--progress", "plain", "down", "--volumes", "--remove-orphans")
    return True


def follow_logs(settings: StackSettings) -> None:
    """Show the log of all containers until interrupted."""
    _compose(settings, "logs", "--follow", "--tail", "100")


def is_running(settings: StackSettings) -> bool:
    """Return whether the project has containers."""
    return bool(_container_ids(settings))


def _container_ids(settings: StackSettings) -> list[str]:
    done = subprocess.run(
        ["docker", "compose", "ps", "--all", "--quiet"],  # noqa: S607 - found on PATH on purpose
        cwd=settings.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StackError(f"`docker compose ps` failed: {done.stderr.strip()}")
    return done.stdout.split()


def _compose(settings: StackSettings, *arguments: str) -> None:
    command: Sequence[str] = ["docker", "compose", *arguments]
    print("$", *command, flush=True)  # noqa: T201 - shows what is done in the person's name
    done = subprocess.run(command, cwd=settings.root, env=os.environ, check=False)  # noqa: S603 - fixed command
    if done.returncode != 0:
        raise StackError(
            f"`{' '.join(command)}` failed with exit code {done.returncode}; "
            "`make logs` shows the containers' output"
        )


def _places(settings: StackSettings) -> dict[str, str]:
    host = "http://localhost"
    user, _, password = settings.flower_basic_auth.partition(":")
    return {
        "API": f"{host}:{settings.api_port}/docs",
        "Flower": f"{host}:{settings.flower_port} (user {user}, password {password})",
        "Mail": f"{host}:{settings.mail_port}",
        "RabbitMQ": f"{host}:{settings.rabbitmq_management_port} "
        f"(user {settings.rabbitmq_default_user}, password {settings.rabbitmq_default_pass})",
        "httpbin": f"{host}:{settings.httpbin_port}",
    }
