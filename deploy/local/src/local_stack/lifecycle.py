"""The stack without Docker: started detached, followed until it is ready, and stopped."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, TextIO

from local_stack.errors import StackError
from local_stack.install import ensure_servers
from local_stack.ports import check_ports
from local_stack.programs import POLL_SECONDS, kill_group
from local_stack.settings import StackSettings
from local_stack.stack_folder import (
    LOG,
    StackState,
    is_running,
    lock_holder,
    read_state,
    remove_state,
)

_START_SECONDS: Final = 240
_SUPERVISOR: Final = "twinlane"
"""Whose lines of the log are about the stack as a whole."""


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
    check_ports(settings.ports_without_docker())
    folder.mkdir(parents=True, exist_ok=True)
    remove_state(folder)
    return _await_ready(folder, _start_detached(folder, settings.root))


def stop(folder: Path, grace_seconds: float) -> bool:
    """Stop the stack and remove its folder; return whether there was anything."""
    folder = folder.absolute()
    if not folder.exists():
        return False
    pid = lock_holder(folder)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        # Three stages are stopped one after the other; workers take longest.
        _await_end(folder, pid, within_seconds=grace_seconds + 60)
    _kill_orphans(folder)
    shutil.rmtree(folder)
    return True


def _start_detached(folder: Path, root: Path) -> "subprocess.Popen[bytes]":
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "local_stack", "run", "--folder", str(folder)],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives this command and its terminal
        )


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
            time.sleep(POLL_SECONDS)


def _show_progress(log: TextIO) -> None:
    for line in log:
        name, _, text = line.partition("|")
        # Lines without a name are a failure of the supervisor itself.
        if name.strip() == _SUPERVISOR or not text:
            print(f"  {text.strip() or line.rstrip()}", flush=True)  # noqa: T201 - shows progress


def _await_end(folder: Path, pid: int, within_seconds: float) -> None:
    deadline = time.monotonic() + within_seconds
    while is_running(folder):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def _kill_orphans(folder: Path) -> None:
    """Kill what a supervisor left that was itself killed, if it is still ours.

    Everything we start works in a folder below this one, unlike a process that has been given the
    same id since. Without /proc (not Linux) nothing is killed on a guess.
    """
    state = read_state(folder)
    for pid in state.children.values() if state else ():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder):
                kill_group(pid)
