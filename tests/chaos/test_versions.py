"""Versions beside each other."""

# ruff: noqa: PLR0913, PLR0917 - fixtures are arguments

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from chaos.client import Client
from chaos.reliability import Measured
from chaos.scene import add, fetch, succeeded
from chaos.services import ApiService, Service, cpu_worker, io_worker, together
from contracts.topology import DEAD_LETTERS
from integration.broker import Broker
from integration.place import Place

PREVIOUS: Final = "b217e689299f7a8495cc893284ac85816adbb9aa"  # pragma: allowlist secret
"""The last commit before contracts was parted: what a team may have deployed today."""

_ROOT: Final = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def previous_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The services of the version before this one, from the repository's history."""
    archive = subprocess.run(
        ["git", "archive", PREVIOUS, "services"], cwd=_ROOT, capture_output=True, check=False
    )
    if archive.returncode != 0:
        pytest.fail(
            f"the commit {PREVIOUS} is not here: this clone's history is shallow or was not "
            "copied. `git fetch --unshallow` brings it.",
            pytrace=False,
        )
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def of_version(service: Service, folder: Path) -> Service:
    """Have a service run another version's code: what is on PYTHONPATH comes first."""
    sources = sorted(str(path) for path in (folder / "services").glob("*/src"))
    service.env["PYTHONPATH"] = os.pathsep.join(sources)
    return service


@pytest.fixture
def settings() -> dict[str, object]:
    return {"fetch_allowed_hosts": "127.0.0.1", "report_allowed_recipients": "@empresa.com"}


@pytest.fixture
def workers(place: Place, settings: dict[str, object]) -> dict[str, list[Service]]:
    """A worker of each lane, for the present version and for the one before, as it was."""
    settings |= {"io_processes": 1}
    return {
        version: [
            io_worker(place, f"io-{version}", **settings),
            cpu_worker(place, f"cpu-{version}"),
        ]
        for version in ("old", "new")
    }


@pytest.fixture
def _running(
    workers: dict[str, list[Service]],
    previous_version: Path,
    broker: Broker,  # noqa: ARG001 - declared
) -> Iterator[None]:
    for worker in workers["old"]:
        of_version(worker, previous_version)
    everybody = [worker for both in workers.values() for worker in both]
    together(*everybody)
    yield
    for worker in everybody:
        worker.stop()


@pytest.mark.usefixtures("_running")
@pytest.mark.parametrize("version", ["old", "new"])
def test_versions_work_beside_each_other(
    version: str,
    place: Place,
    httpbin: str,
    broker: Broker,
    settings: dict[str, object],
    previous_version: Path,
    measured: Measured,
) -> None:
    """A deployment may be half done: workers of both versions run the jobs of either API.

    Fault: a worker of each lane of the version before beside one of this version.
    """
    api = ApiService(place, f"api-{version}", **settings)
    if version == "old":
        of_version(api, previous_version)
    measured.fault(f"Workers of this version and of the one before, behind the {version} API.")
    with api, Client(api.url) as client:
        ids = [add(client, n, n) for n in range(40)]
        ids += [fetch(client, f"{httpbin}/status/404") for _ in range(40)]
        ids += [client.submit("io.draw_number", {}) for _ in range(10)]
        ids += [client.submit("cpu.sum_numbers", {"a": 1, "b": 2}, delay=1) for _ in range(5)]
        ends = [succeeded(client, job_id) for job_id in ids]
    by_worker = {attempt["worker"].partition("@")[0] for job in ends for attempt in job["attempts"]}
    measured.note("jobs", len(ends))
    measured.note("workers that took part", len(by_worker))
    assert len(by_worker) == 4
    assert broker.ready(DEAD_LETTERS.name) == 0
