"""Peers: what a user would pick instead, each in an environment of its own."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks.ours import Api, answers
from benchmarks.processes import running
from integration.place import Place
from local_stack.ports import free_ports
from local_stack.programs import Program, basic_env

_ROOT: Final = Path(__file__).parents[2]
_TESTS: Final = _ROOT / "tests"
_PEERS: Final = Path(__file__).parent / "peers"
_UV: Final = _ROOT / ".local" / "tools" / "bin" / "uv"


@dataclass(frozen=True)
class Peer:
    """A folder of `peers`: what it needs, locked, and its programs."""

    name: str

    @property
    def folder(self) -> Path:
        return _PEERS / self.name

    def python(self) -> str:
        """Return its interpreter, in an environment that holds exactly what the lock file names."""
        return _interpreter(self.folder)

    def program(self, name: str, place: Place, *module_and_arguments: str, **env: str) -> Program:
        """Return `python -m …` of the peer, with the addresses of a place as its environment."""
        return Program(
            name=name,
            argv=[self.python(), "-m", *module_and_arguments],
            env=basic_env(PYTHONPATH=str(_TESTS), **place.environment() | env),
            cwd=place.folder,
        )

    @contextmanager
    def api(self, place: Place, **env: str) -> Iterator[Api]:
        """Serve its `app.py` with one process of uvicorn[standard] that logs no accesses."""
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        application = f"benchmarks.peers.{self.name}.app:app"
        arguments = [application, "--port", str(port), "--no-access-log", "--log-level", "warning"]
        program = replace(
            self.program("api", place, "uvicorn", *arguments, **env),
            is_ready=lambda: answers(f"{url}/openapi.json"),
        )
        with running(program) as (child,):
            yield Api(url, child.pid)

    @contextmanager
    def worker(
        self, place: Place, *module_and_arguments: str, is_ready: Callable[[], bool], **env: str
    ) -> Iterator[int]:
        """Run a worker and yield its process id."""
        program = self.program("worker", place, *module_and_arguments, **env)
        with running(replace(program, is_ready=is_ready)) as (child,):
            yield child.pid


def peers_packages() -> str:
    """Name the packages that the peers' environments are made for, with their versions."""
    projects = (tomllib.loads(path.read_text()) for path in _PEERS.glob("*/pyproject.toml"))
    named = {package for each in projects for package in each["project"]["dependencies"]}
    return ", ".join(sorted(package.replace("==", " ") for package in named))


@cache
def _interpreter(folder: Path) -> str:
    environment = _ROOT / ".local" / "benchmarks" / "peers" / folder.name
    uv = str(_UV) if _UV.exists() else shutil.which("uv") or "uv"
    more = {"UV_PROJECT_ENVIRONMENT": str(environment), "UV_PYTHON_DOWNLOADS": "never"}
    subprocess.run(
        [uv, "sync", "--quiet", "--frozen", "--python", sys.executable],
        cwd=folder,
        env={**os.environ, **more},
        check=True,
    )
    return str(environment / "bin" / "python")
