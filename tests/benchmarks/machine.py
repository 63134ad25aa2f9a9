"""What a run was measured on."""

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Final

from servers import use_docker

_PACKAGES: Final = ("fastapi", "uvicorn", "celery", "kombu", "redis", "duckdb")
_SYNCS: Final = 50
_GIB: Final = 1024**3


def facts(root: Path, scratch: Path) -> dict[str, str]:
    """Describe the machine and our own code, before anything runs."""
    load, *_ = os.getloadavg()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    return {
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Commit": _commit(root),
        "Processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores for this run",
        "Memory": f"{memory:.0f} GiB",
        "System": f"{platform.system()} {platform.release()}",
        "A write made durable": f"{_sync_ms(scratch):.2f} ms (4 KiB and fsync, median)",
        "Load before the run": f"{load:.2f}",
        "Servers": "the official containers" if use_docker() else "child processes, no containers",
        "Python": platform.python_version(),
        "Packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def stolen_seconds() -> float:
    """Return the processor time that the host has kept from this machine so far."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


def _commit(root: Path) -> str:
    """Name the commit, and say if there is more than that in the files."""
    git = ["git", "-C", str(root)]
    commit = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, check=False
    )
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no", "--", "services", "tests"],
        capture_output=True,
        check=False,
    )
    name = commit.stdout.decode().strip() or "none: not a git checkout"
    return f"{name} with changes" if changed.stdout.strip() else name


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _sync_ms(folder: Path) -> float:
    """Return what a durable write costs here: brokers and Redis spend their time on it."""
    taken = []
    with TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            file.write(b"." * 4096)
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - started) * 1000)
    return median(taken)
