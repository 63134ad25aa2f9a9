"""Our own services as child processes, started as they are deployed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2

from benchmarks.processes import running
from integration.place import Place
from local_stack.ports import free_ports
from local_stack.programs import Program, basic_env
from twinlane_sdk.lanes import Lane


@dataclass(frozen=True)
class Api:
    """A running API, ours or a peer's."""

    url: str
    pid: int


def answers(url: str) -> bool:
    """Return whether a GET of an address succeeds."""
    try:
        return httpx2.get(url, timeout=5).is_success
    except httpx2.HTTPError:
        return False


@contextmanager
def our_api(place: Place, **settings: object) -> Iterator[Api]:
    """Run the API with one process, unless settings say otherwise."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    program = Program(
        name="api",
        argv=[sys.executable, "-m", "api.main"],
        env=_environment(place, {"api_port": port, "api_workers": 1, **settings}),
        cwd=place.folder,
        is_ready=lambda: answers(f"{url}/readyz"),
    )
    with running(program) as (child,):
        yield Api(url, child.pid)


@contextmanager
def our_workers(
    place: Place, lane: Lane, count: int = 1, **settings: object
) -> Iterator[list[int]]:
    """Run workers of a lane and yield their process ids; sums do not wait as if they worked."""
    with running(*(_worker(place, lane, number, settings) for number in range(count))) as children:
        yield [child.pid for child in children]


def _worker(place: Place, lane: Lane, number: int, settings: dict[str, object]) -> Program:
    name = f"worker-{lane}-{number}"
    heartbeat = place.folder / f"{name}.heartbeat"
    heartbeat.unlink(missing_ok=True)  # there may have been one of its name in this place
    scratch = place.folder / f"{name}.scratch"
    scratch.mkdir(exist_ok=True)
    local: dict[str, object] = {
        "heartbeat_file": heartbeat,
        "scratch_folder": scratch,
        "worker_name": name,
        "sum_delay_seconds": 0,
        "fetch_private_hosts": "127.0.0.1",
    }
    return Program(
        name=name,
        argv=[sys.executable, "-m", f"worker_{lane}.main"],
        env=_environment(place, local | settings),
        cwd=place.folder,
        is_ready=heartbeat.exists,
    )


def _environment(place: Place, settings: dict[str, object]) -> dict[str, str]:
    named = {name.upper(): str(value) for name, value in settings.items()}
    return basic_env(**place.environment() | named)
