"""The stack without Docker: started in the foreground or detached, found again, and stopped.

A running stack holds a lock on a file in its folder. The lock ends with its process, however that
ends, so whoever holds it is alive and is ours; a process id alone could be somebody else's by now.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TextIO

from local_stack.install import ensure_servers
from local_stack.ports import is_free
from local_stack.private_servers import USER
from local_stack.programs import kill_group
from local_stack.service_programs import HOST, LocalStack
from local_stack.settings import StackSettings
from local_stack.supervisor import Screen, Supervisor

LOG: Final = "stack.log"
_STATE: Final = "state.json"
_LOCK: Final = "lock"
_START_SECONDS: Final = 240
_OWN_LINES: Final = "twinlane"


class StackError(Exception):
    """The stack can't be started or stopped; says why and what to do."""


@dataclass(frozen=True)
class StackState:
    """What is written down about a stack that is ready."""

    pid: int
    api_url: str
    places: dict[str, str]
    """Where a person looks, by what is there."""
    mail_folder: str
    management_url: str
    children: dict[str, int]


def check_ports(ports: dict[str, int]) -> None:
    """Check that ports, by the setting that chooses them, are free.

    Raises:
        StackError: one is in use; names it, and the setting.

    """
    for setting, port in ports.items():
        if not is_free(port):
            another = next((p for p in range(port + 1, port + 100) if is_free(p)), port + 1)
            raise StackError(
                f"port {port} is in use: choose another with {setting}, "
                f"for example `make up {setting}={another}`"
            )


def run(folder: Path, settings: StackSettings, out: TextIO) -> int:
    """Run the stack until a signal, or until a part of it ends; return the exit code.

    Raises:
        StackError: it is running already, or a port is in use.
        MissingProgramError: RabbitMQ or Redis is missing.

    """
    folder = folder.absolute()
    ensure_servers()
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder):
        (folder / _STATE).unlink(missing_ok=True)
        check_ports(_public_ports(settings))
        stack = LocalStack.at(folder, settings)
        stages = stack.stages()
        names = [program.name for stage in stages for program in stage]
        colours = out.isatty() and "NO_COLOR" not in settings.environment
        screen = Screen(out, names, colours=colours)
        return asyncio.run(Supervisor(stages, screen, lambda pids: _write_state(stack, pids)).run())


def start(folder: Path, settings: StackSettings) -> StackState:
    """Start the stack detached, unless it is running, and return once it is ready.

    Raises:
        StackError: it could not be started; with its last lines.
        MissingProgramError: RabbitMQ or Redis is missing.

    """
    folder = folder.absolute()
    if is_running(folder):
        print("the stack is running already; `make down` first to start it anew")  # noqa: T201 - shows progress
        return _await_ready(folder, None)
    ensure_servers()
    check_ports(_public_ports(settings))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _STATE).unlink(missing_ok=True)
    with (folder / LOG).open("wb") as log:
        supervisor = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "local_stack", "run", "--folder", str(folder)],
            cwd=settings.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives this command and its terminal
        )
    return _await_ready(folder, supervisor)


def stop(folder: Path, grace_seconds: float) -> bool:
    """Stop the stack and remove its folder; return whether there was anything."""
    folder = folder.absolute()
    if not folder.exists():
        return False
    pid = _lock_holder(folder)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        # Three stages are stopped one after the other; workers take longest.
        _await_end(folder, pid, within_seconds=grace_seconds + 60)
    _kill_orphans(folder)
    shutil.rmtree(folder)
    return True


def is_running(folder: Path) -> bool:
    """Say whether a stack runs in this folder."""
    return _lock_holder(folder.absolute()) is not None


def read_state(folder: Path) -> StackState | None:
    """Return what is known of the stack in a folder; None when it is not ready."""
    try:
        return StackState(**json.loads((folder / _STATE).read_text()))
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    with (folder / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"a stack is running in {folder}: stop it with `make down`") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _lock_holder(folder: Path) -> int | None:
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return int((folder / _LOCK).read_text())
    return None


def _public_ports(settings: StackSettings) -> dict[str, int]:
    ports = {
        "API_PORT": settings.api_port,
        "FLOWER_PORT": settings.flower_port,
        "HTTPBIN_PORT": settings.httpbin_port,
    }
    if "RABBITMQ_MANAGEMENT_PORT" in settings.environment:  # otherwise any free one
        ports["RABBITMQ_MANAGEMENT_PORT"] = settings.rabbitmq_management_port
    return ports


def _write_state(stack: LocalStack, children: dict[str, int]) -> None:
    settings, rabbitmq = stack.settings, stack.rabbitmq
    user, _, password = settings.flower_basic_auth.partition(":")
    api_url = f"http://{HOST}:{settings.api_port}"
    state = StackState(
        pid=os.getpid(),
        api_url=api_url,
        places={
            "API": f"{api_url}/docs",
            "Flower": f"http://{HOST}:{settings.flower_port} (user {user}, password {password})",
            "Mail": f"{stack.mail_folder} (a Maildir)",
            "RabbitMQ": f"http://{HOST}:{rabbitmq.management_port} "
            f"(user {USER}, password {rabbitmq.password})",
            "httpbin": f"http://{HOST}:{settings.httpbin_port}",
            "Log": f"{stack.folder / LOG} (`make logs`)",
        },
        mail_folder=str(stack.mail_folder),
        management_url=rabbitmq.management_url,
        children=children,
    )
    new = stack.folder / f"{_STATE}.new"
    new.touch(mode=0o600)
    new.write_text(json.dumps(asdict(state), indent=2))
    new.replace(stack.folder / _STATE)


def _await_ready(folder: Path, supervisor: "subprocess.Popen[bytes] | None") -> StackState:
    deadline = time.monotonic() + _START_SECONDS
    with (folder / LOG).open(errors="replace") if supervisor else open(os.devnull) as log:  # noqa: PTH123 - not a path
        while True:
            _show_progress(log)
            if state := read_state(folder):
                return state
            ended = supervisor.poll() is not None if supervisor else not is_running(folder)
            if ended or time.monotonic() > deadline:
                _show_progress(log)
                what = "did not start" if ended else f"is not ready after {_START_SECONDS} s"
                raise StackError(f"the stack {what}. Its log: {folder / LOG}")
            time.sleep(0.1)


def _show_progress(log: TextIO) -> None:
    for line in log:
        name, _, text = line.partition("|")
        # Lines that are no program's own tell of a failure: they end with the supervisor.
        if name.strip() == _OWN_LINES or not text:
            print(f"  {text.strip() or line.rstrip()}", flush=True)  # noqa: T201 - shows progress


def _await_end(folder: Path, pid: int, within_seconds: float) -> None:
    deadline = time.monotonic() + within_seconds
    while is_running(folder):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _kill_orphans(folder: Path) -> None:
    """Kill what a supervisor left that was itself killed, if it is still ours.

    Everything we start works in a folder below this one, which tells it from a process that has
    been given the same id since. Without /proc (not Linux) nothing is killed on a guess.
    """
    state = read_state(folder)
    for pid in state.children.values() if state else ():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder):
                kill_group(pid)
