from twinlane_sdk.lanes import Lane
from twinlane_tasks.catalogue import bundled_tasks
from worker_cpu.app import create_app
from worker_cpu.settings import WorkerCpuSettings


def test_worker_implements_exactly_its_lane(settings: WorkerCpuSettings) -> None:
    app = create_app(settings)
    assert {
        name for name in app.tasks if not name.startswith("celery.")
    } == bundled_tasks().names_on(Lane.CPU)
