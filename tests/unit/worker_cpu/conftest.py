from pathlib import Path

import pytest

from contracts.storage import open_storage
from unit.worker_cpu.cpu_lane import CpuLane
from worker_cpu.settings import WorkerCpuSettings
from worker_cpu.tasks import CpuTasks


@pytest.fixture
def settings(tmp_path: Path) -> WorkerCpuSettings:
    return WorkerCpuSettings.model_validate(
        {
            "broker_url": "amqp://unused",
            "result_url": "redis://unused",
            "storage_url": f"file://{tmp_path}/storage",
            "scratch_folder": tmp_path / "scratch",
            "sum_delay_seconds": 0,
        }
    )


@pytest.fixture
def lane(settings: WorkerCpuSettings, tmp_path: Path) -> CpuLane:
    storage = open_storage(settings.storage_url)
    return CpuLane(CpuTasks(settings, storage), storage, tmp_path)
