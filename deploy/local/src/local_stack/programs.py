"""What a child process is, how it ends with its parent, and how it is ended before."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local_stack.errors import StackError

POLL_SECONDS: Final = 0.1


class NotReadyError(StackError):
    """A program ended or took too long before it was ready; says which, with its last lines."""


def _at_once() -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program to run as a child, with its whole environment and how to see that it is ready."""

    name: str
    argv: Sequence[str]
    env: dict[str, str] = field(repr=False)
    cwd: Path
    is_ready: Callable[[], bool] = _at_once
    ready_within_seconds: float = 60
    stop_within_seconds: float = 15
    niceness: int = 0
    """How much it leaves the processor to the other programs, from 0 to 19; see `autogroup`."""


def ending_with_parent(argv: Sequence[str]) -> list[str]:
    """Return the command that ends when the thread that starts it does, even by SIGKILL.

    setpriv asks the kernel for SIGTERM when the parent ends and then becomes the program: no
    process is added, and nothing of ours runs between fork and exec. Only Linux can do that;
    elsewhere the children of a supervisor that was killed are left to `down`.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--", *argv] if setpriv else list(argv)


def basic_env(**more: str) -> dict[str, str]:
    """Return what every program may know of the caller's environment, and `more`."""
    names = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
    return {name: os.environ[name] for name in names if name in os.environ} | more


def autogroup(leader: int) -> Path:
    """Return where Linux keeps the niceness of a whole session, by its leader.

    Linux may share the processor out to sessions first, and then `nice` counts only among the
    processes of one; each program here leads a session of its own. Where there is no such file,
    there are no such groups.
    """
    return Path(f"/proc/{leader}/autogroup")


class ChildProcess:
    """A running program whose output goes to a file."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the project's own programs
                ending_with_parent(program.argv),
                env=program.env,
                cwd=program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the caller, who stops things in order
            )
        self.pid = self._process.pid

    def wait_until_ready(self) -> None:
        """Wait until the program is ready.

        Raises:
            NotReadyError: it ended, or its time is over.

        """
        program = self.program
        deadline = time.monotonic() + program.ready_within_seconds
        while not program.is_ready():
            code = self._process.poll()
            if code is not None:
                raise NotReadyError(self._report(f"ended with exit code {code}"))
            if time.monotonic() > deadline:
                raise NotReadyError(
                    self._report(f"was not ready within {program.ready_within_seconds:.0f} s")
                )
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End the program with SIGTERM, or SIGKILL when that takes too long, and its children."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(self.program.stop_within_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        kill_group(self.pid)

    def _report(self, what: str) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-20:]
        return "\n  ".join([f"{self.program.name} {what}. Its last lines:", *lines])


def kill_group(leader: int) -> None:
    """Kill what is left of the process group of a child."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return  # nothing is left, as usual
