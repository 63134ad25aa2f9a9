"""Programs under measurement: started, watched and ended, and what the kernel says they took."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from local_stack.programs import ChildProcess, Program

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_PROC: Final = Path("/proc")


@contextmanager
def running(*programs: Program) -> Iterator[list[ChildProcess]]:
    """Run programs, ready inside, and end them in the end; their output is `<cwd>/<name>.log`."""
    with ExitStack() as started:
        children = []
        for program in programs:
            child = ChildProcess(program, program.cwd / f"{program.name}.log")
            started.callback(child.stop)
            children.append(child)
        for child in children:
            child.wait_until_ready()
        yield children


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and its descendants have taken so far."""
    return sum(_cpu_ticks(each) for each in tree(pid)) / _TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """Return the memory of a process and its descendants; what they share counts for each."""
    pages = (_read(_PROC / str(each) / "statm").split()[1:2] for each in tree(pid))
    return sum(int(count) for found in pages for count in found) * _PAGE_BYTES


def tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    children = _children_of_all()
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def _children_of_all() -> dict[int, Sequence[int]]:
    children: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    return dict(children)


def _cpu_ticks(pid: int) -> int:
    # utime, stime, and those of the children that have ended: fields 14 to 17 of proc(5).
    return sum(int(ticks) for ticks in _stat(pid)[11:15])


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on; none if the process has ended."""
    # The second is the program's name, which may hold spaces and brackets.
    return _read(_PROC / str(pid) / "stat").rpartition(")")[2].split()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
