"""The cpu worker's Celery application: which function does which task."""

from contracts.implementation import implement
from contracts.storage import open_storage
from contracts.tasks import AGGREGATE_SALES, PROCESS_CSV, RENDER_REPORT, SUM_NUMBERS
from contracts.wire import JobApp, create_celery
from worker_cpu.settings import WorkerCpuSettings
from worker_cpu.tasks import CpuTasks


def create_app(settings: WorkerCpuSettings) -> JobApp:
    """Create the application with every task of the cpu lane."""
    app = create_celery(settings)
    storage = open_storage(settings.storage_url)
    tasks = CpuTasks(settings, storage)
    implement(app, SUM_NUMBERS, tasks.sum_numbers, storage)
    implement(app, PROCESS_CSV, tasks.process_csv, storage)
    implement(app, AGGREGATE_SALES, tasks.aggregate_sales, storage)
    implement(app, RENDER_REPORT, tasks.render_report, storage)
    return app
