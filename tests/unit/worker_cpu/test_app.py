from contracts.lanes import Lane
from contracts.tasks import specs_of
from worker_cpu.app import create_app
from worker_cpu.settings import WorkerCpuSettings


def test_worker_implements_exactly_its_lane(settings: WorkerCpuSettings) -> None:
    app = create_app(settings)
    assert {name for name in app.tasks if not name.startswith("celery.")} == specs_of(Lane.CPU)
