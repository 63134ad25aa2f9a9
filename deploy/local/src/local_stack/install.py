"""Programs from the machine's own packages: RabbitMQ and Redis, above all.

On Debian and Ubuntu, as root or with sudo that asks nothing, what is missing is installed. The
packages would also start system services on the well-known ports, now and at every boot: nobody
asked for those, so neither happens.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from local_stack.errors import StackError

PACKAGES: Final = {"rabbitmq-server": "rabbitmq-server", "redis-server": "redis-server"}
"""The program that must be there, and the Debian package that brings it."""

_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT: Final = "#!/bin/sh\n# Written by twinlane while it installs packages.\nexit 101\n"
_SYSTEM_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/opt/homebrew/sbin", "/usr/local/opt")


class MissingProgramError(StackError):
    """A program is not on this machine and could not be installed."""


def find_program(name: str) -> str | None:
    """Return the path of a program, looking in the system folders that users lack on PATH too."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_SYSTEM_FOLDERS))


def ensure_servers() -> None:
    """Make sure that RabbitMQ and Redis can be started here, as `ensure_programs` does."""
    ensure_programs(PACKAGES)


def ensure_programs(packages: Mapping[str, str]) -> None:
    """Make sure that programs are here, installing the packages of those that are missing.

    Raises:
        MissingProgramError: they are missing and nothing here may install them; says what to do.

    """
    missing = [package for program, package in packages.items() if not find_program(program)]
    if not missing:
        return
    prefix = _root_prefix()
    if prefix is None or not shutil.which("apt-get"):
        raise MissingProgramError(_advice(missing))
    print(f"Installing {' and '.join(missing)} (no system service is started)", flush=True)  # noqa: T201 - takes a minute
    # Erlang brings services too, which are not ours to disable if somebody has it already.
    erlang = [] if find_program("epmd") else ["epmd.socket", "epmd.service"]
    with _services_kept_down(prefix, [*missing, *erlang]):
        _apt_install(prefix, missing)


def _advice(missing: Sequence[str]) -> str:
    names = " and ".join(missing)
    if shutil.which("apt-get"):
        command = f"sudo apt-get install {' '.join(missing)}"
    elif shutil.which("brew"):
        command = "brew install rabbitmq redis"
    else:
        command = "this system's package manager"
    return f"{names} not found: install with `{command}`, or start Docker and use that"


def _root_prefix() -> list[str] | None:
    """Return what makes a command run as root: nothing, sudo, or None when neither works."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and _run([sudo, "-n", "true"]).returncode == 0:
        return [sudo, "-n"]
    return None


def _apt_install(prefix: list[str], packages: Sequence[str]) -> None:
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    apt += ["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    install = [*apt, "install", "-y", "--no-install-recommends", *packages]
    if _run(install).returncode == 0:
        return
    _run([*apt, "update"])  # the lists are old, or absent as in a fresh container
    done = _run(install)
    if done.returncode != 0:
        raise MissingProgramError(f"{_advice(packages)}. apt-get said:\n{done.stdout[-2000:]}")


@contextlib.contextmanager
def _services_kept_down(prefix: list[str], services: Sequence[str]) -> Iterator[None]:
    """Let packages be installed without their services, which are disabled at boot as well."""
    ours = not _POLICY.exists()
    if ours:
        _run([*prefix, "tee", str(_POLICY)], stdin=_POLICY_TEXT)
        _run([*prefix, "chmod", "755", str(_POLICY)])
    try:
        yield
    finally:
        # systemctl edits files here, so it works without a running systemd; it takes along rc?.d.
        tool = ["systemctl", "disable"] if shutil.which("systemctl") else ["update-rc.d"]
        for service in services:
            tail = [service] if len(tool) > 1 else [service, "disable"]
            _run([*prefix, *tool, *tail])
        if ours:
            _run([*prefix, "rm", "-f", str(_POLICY)])


def _run(command: list[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - fixed commands
            command,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError as exc:
        return subprocess.CompletedProcess(command, 127, str(exc))
