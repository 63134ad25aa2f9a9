"""Our own services as child processes, as they are deployed: `python -m`, settings, SIGTERM."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2

from integration.place import Place
from local_stack.ports import free_ports
from local_stack.programs import basic_env, ending_with_parent
from servers import eventually
from twinlane_sdk.lanes import Lane

_LANE_WORKER = Path(__file__).with_name("lane_worker.py")
_READY_WITHIN_SECONDS = 60


class Service:
    """A running service."""

    def __init__(self, name: str, argv: Sequence[str], place: Place, **settings: object) -> None:
        number = len(list(place.folder.glob("*.log")))
        self.log = place.folder / f"{name}-{number}.log"
        more = {key.upper(): str(value) for key, value in settings.items()}
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                ending_with_parent([sys.executable, *argv]),
                env=basic_env(**place.environment() | more),
                cwd=place.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """The id of its process, or of the first of its processes."""
        return self._process.pid

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Wait until the service is ready; fail with its log if it ends or takes too long."""
        ready = eventually(
            lambda: self._process.poll() is not None or is_ready(), _READY_WITHIN_SECONDS
        )
        assert ready, f"not ready: {self.log.read_text()}"
        assert self._process.poll() is None, f"ended: {self.log.read_text()}"

    def terminate(self) -> None:
        """Ask it to stop, as every supervisor does first."""
        self._process.terminate()

    def kill(self) -> None:
        """End it as a failing machine does."""
        self._process.kill()
        self._process.wait()

    def exit_code(self, within_seconds: float = 30) -> int:
        """Wait until it has ended and return its exit code."""
        return self._process.wait(within_seconds)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def run_api(place: Place, **settings: object) -> Iterator[httpx2.Client]:
    """Run the API and yield a client of it."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    service = Service("api", ["-m", "api.main"], place, api_port=port, **settings)
    try:
        service.wait_until(lambda: _is_alive(url))
        with httpx2.Client(base_url=url, timeout=70) as client:
            yield client
    finally:
        service.stop()


@contextmanager
def run_beat(place: Place, **settings: object) -> Iterator[Service]:
    """Run beat; ready when its loop has turned."""
    files = {
        "heartbeat_file": place.folder / "heartbeat-beat",
        "beat_state_file": place.folder / "state",
    }
    service = Service("beat", ["-m", "beat.main"], place, **files | settings)
    try:
        service.wait_until(files["heartbeat_file"].exists)
        yield service
    finally:
        service.stop()


@contextmanager
def run_lane_worker(place: Place, lane: Lane, **settings: object) -> Iterator[Service]:
    """Run a worker of a lane with the tasks of lane_worker.py; ready when it consumes."""
    service = start_lane_worker(place, lane, **settings)
    try:
        service.wait_until(service.log.with_suffix(".heartbeat").exists)
        yield service
    finally:
        service.stop()


def start_lane_worker(place: Place, lane: Lane, **settings: object) -> Service:
    """Start such a worker and wait for nothing."""
    number = len(list(place.folder.glob("*.log")))
    name = f"worker-{lane}"
    heartbeat = place.folder / f"{name}-{number}.heartbeat"
    argv = [str(_LANE_WORKER), lane]
    return Service(name, argv, place, heartbeat_file=heartbeat, gates=place.folder, **settings)


def _is_alive(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/livez", timeout=5).is_success
    except httpx2.HTTPError:
        return False
