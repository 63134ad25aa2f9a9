"""Our own services as victims: real processes with real settings, started again as they were."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx2

from chaos.victims import Victim
from integration.place import Place
from local_stack.ports import free_ports
from local_stack.programs import basic_env, ending_with_parent, kill_group
from servers import children_of, eventually
from twinlane_sdk.lanes import Lane

_LANE_WORKER: Final = Path(__file__).parents[1] / "integration" / "lane_worker.py"
_READY_WITHIN_SECONDS: Final = 90
STOP_WITHIN_SECONDS: Final = 60


class Service(Victim):
    """A service of ours: `launch` starts it, `start` also waits until it is ready."""

    def __init__(self, name: str, argv: Sequence[str], place: Place, **settings: object) -> None:
        self.name = name
        self.folder = place.folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "log"
        self.argv = [sys.executable, *argv]
        more = {key.upper(): str(value) for key, value in settings.items()}
        self.env = basic_env(**place.environment() | more)
        self.process: subprocess.Popen[bytes] | None = None
        self._orphaned: list[int] = []
        self.killed_at: list[float] = []
        """When it was killed, as time.time() says."""

    def is_ready(self) -> bool:
        return True

    def launch(self) -> None:
        """Start it without waiting."""
        assert not self.is_running(), f"{self.name} runs already"
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                ending_with_parent(self.argv),
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that its children can be found by their group
            )

    def start(self) -> None:
        self.launch()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        ready = eventually(lambda: not self.is_running() or self.is_ready(), _READY_WITHIN_SECONDS)
        assert self.is_running(), f"{self.name} ended: {self.tail()}"
        assert ready, f"{self.name} is not ready: {self.tail()}"

    def kill(self) -> None:
        """Kill it with its children, as the end of its container does."""
        self.killed_at.append(time.time())
        kill_group(self.pid)
        self._running().wait()

    def kill_main(self) -> None:
        """Kill the main process only; its children are left to find out."""
        self.killed_at.append(time.time())
        self._orphaned.append(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        self._running().wait()

    def kill_child(self) -> None:
        """Kill the first of its children, as the kernel does when memory is short."""
        self.killed_at.append(time.time())
        os.kill(self.children()[0], signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to stop, and do not wait."""
        os.kill(self.pid, signal.SIGTERM)

    def stop(self) -> None:
        self.terminate()
        try:
            self._running().wait(STOP_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        for group in [self.pid, *self._orphaned]:
            kill_group(group)

    def pause(self) -> None:
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        return self._running().pid

    def exit_code(self, within_seconds: float = STOP_WITHIN_SECONDS) -> int:
        """Wait until it has ended and return its exit code."""
        return self._running().wait(within_seconds)

    def children(self) -> list[int]:
        """Return the processes that it has started, oldest first."""
        return children_of(self.pid)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def _running(self) -> "subprocess.Popen[bytes]":
        assert self.process, f"{self.name} was never started"
        return self.process


class ApiService(Service):
    """The API, on a port that it keeps."""

    def __init__(self, place: Place, name: str = "api", **settings: object) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(name, ["-m", "api.main"], place, api_port=port, **settings)

    def is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/livez", timeout=5).is_success
        except httpx2.HTTPError:
            return False


class BeatingService(Service):
    """A service that shows by a file that it is connected and lives."""

    def __init__(self, name: str, argv: Sequence[str], place: Place, **settings: object) -> None:
        self._heartbeat = place.folder / name / "heartbeat"
        super().__init__(
            name,
            argv,
            place,
            heartbeat_file=self._heartbeat,
            scratch_folder=place.folder / name,
            **settings,
        )

    def launch(self) -> None:
        self._heartbeat.unlink(missing_ok=True)
        super().launch()

    def is_ready(self) -> bool:
        return self._heartbeat.exists()

    def is_connected_since(self, moment: float) -> bool:
        """Return whether it was connected to the broker after a moment of time.time()."""
        try:
            return self._heartbeat.stat().st_mtime > moment
        except FileNotFoundError:
            return False


def io_worker(place: Place, name: str = "worker-io", **settings: object) -> BeatingService:
    """Return the real worker of the io lane."""
    local: dict[str, object] = {"fetch_private_hosts": "127.0.0.1"}
    return BeatingService(name, ["-m", "worker_io.main"], place, **local | settings)


def cpu_worker(place: Place, name: str = "worker-cpu", **settings: object) -> BeatingService:
    """Return the real worker of the cpu lane."""
    choices: dict[str, object] = {"sum_delay_seconds": 0, "cpu_concurrency": 2} | settings
    return BeatingService(name, ["-m", "worker_cpu.main"], place, **choices)


def obedient_worker(place: Place, lane: Lane, name: str = "", **settings: object) -> BeatingService:
    """Return a worker whose tasks do what a test asks of them; see lane_worker.py."""
    return BeatingService(
        name or f"obedient-{lane}",
        [str(_LANE_WORKER), lane],
        place,
        gates=place.folder,
        **settings,
    )


def together(*services: Service) -> None:
    """Start services at the same time and wait until all of them are ready."""
    for service in services:
        service.launch()
    for service in services:
        service.wait_until_ready()
