"""The folder of a stack without Docker: whether it runs, what is known of it, its log.

A running stack holds a lock on a file in its folder. The lock ends with its process, however that
ends, so its holder is running and is ours; a process id alone could be somebody else's by now.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from local_stack.errors import StackError

LOG: Final = "stack.log"
_STATE: Final = "state.json"
_LOCK: Final = "lock"


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
    """The process ids of its programs, by their names."""


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the folder for this process, with nothing known of the stack yet.

    Raises:
        StackError: another process holds it.

    """
    with (folder / _LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"a stack is running in {folder}: stop it with `make down`") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        remove_state(folder)
        yield


def lock_holder(folder: Path) -> int | None:
    """Return the id of the process that holds the folder; None when nobody does."""
    try:
        with (folder / _LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return int((folder / _LOCK).read_text())
    return None


def is_running(folder: Path) -> bool:
    """Return whether a stack runs in this folder."""
    return lock_holder(folder) is not None


def read_state(folder: Path) -> StackState | None:
    """Return what is known of the stack in a folder; None when it is not ready."""
    try:
        return StackState(**json.loads((folder / _STATE).read_text()))
    except FileNotFoundError:
        return None


def write_state(folder: Path, state: StackState) -> None:
    """Write down what is known of a stack that is ready now, for nobody but its owner to read."""
    new = folder / f"{_STATE}.new"
    new.touch(mode=0o600)
    new.write_text(json.dumps(asdict(state), indent=2))
    new.replace(folder / _STATE)


def remove_state(folder: Path) -> None:
    """Remove what was known of a stack that ran in this folder before."""
    (folder / _STATE).unlink(missing_ok=True)
