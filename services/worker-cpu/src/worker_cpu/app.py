"""The cpu worker's Celery application: which function does which task."""

from contracts.storage import open_storage
from twinlane_tasks.catalogue import bundled_tasks
from worker_cpu.settings import WorkerCpuSettings
from worker_cpu.tasks import CpuTasks
from worker_runtime.app import WorkerApp, create_worker_app
from worker_runtime.executor import implement


def create_app(settings: WorkerCpuSettings) -> WorkerApp:
    """Create the application with every task of the cpu lane."""
    app = create_worker_app(settings, bundled_tasks())
    storage = open_storage(settings.storage_url)
    tasks = CpuTasks(settings, storage)
    for implementation in tasks.implementations():
        implement(app, implementation, storage)
    return app
