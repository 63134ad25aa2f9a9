"""A worker's Celery application: what delivery means, and where results go."""

from typing import Any

from celery import Celery

from contracts.celery_app import configure
from contracts.settings import SharedSettings
from twinlane_sdk.catalogue import Catalogue
from worker_runtime.cancellation import RunningJobs
from worker_runtime.result_backend import REDIS_CONNECTIONS, ResultBackend

# Celery loads both by name.
_CONSUMER = "worker_runtime.consumer:LaneConsumer"
_RESULT_BACKEND = f"{ResultBackend.__module__}:{ResultBackend.__qualname__}"


class WorkerApp(Celery):
    """A Celery application that knows which tasks there are and which jobs its process runs."""

    catalogue: Catalogue
    running_jobs: RunningJobs


def create_worker_app(settings: SharedSettings, catalogue: Catalogue) -> WorkerApp:
    """Create a worker's application; `implement` gives it its tasks."""
    app = configure(WorkerApp("twinlane", set_as_current=False), settings, catalogue)
    app.catalogue = catalogue
    app.running_jobs = RunningJobs()
    app.conf.update(_delivery() | _results(settings))
    return app


def _delivery() -> dict[str, Any]:
    """Return what at-least-once takes: late acknowledgement, and nothing lost with a worker."""
    return {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # A final failure is rejected into the dead-letter exchange; a retry is still acknowledged.
        "task_acks_on_failure": False,
        # Rejecting a job that met its hard time limit would requeue it, to take as long again.
        "task_acks_on_timeout": True,
        "task_track_started": False,  # the executor does it, and says since when
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_consumer": _CONSUMER,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": True,
    }


def _results(settings: SharedSettings) -> dict[str, Any]:
    """Return how results are kept, and that a job waits for Redis rather than be lost."""
    return {
        "result_backend": f"{_RESULT_BACKEND}+{settings.result_url.get_secret_value()}",
        "result_serializer": "json",
        "result_expires": settings.job_ttl_seconds,
        "result_backend_always_retry": True,
        "result_backend_max_sleep_between_retries_ms": 2_000,
        "result_backend_thread_safe": True,
        "result_backend_transport_options": {
            "additional_connection_errors": [
                "redis.exceptions.ReadOnlyError",
                "redis.exceptions.OutOfMemoryError",
            ]
        },
        "redis_socket_timeout": 5,
        "redis_socket_connect_timeout": 2,
        "redis_backend_health_check_interval": 30,
        "redis_max_connections": REDIS_CONNECTIONS,
    }


def result_url(app: Celery) -> str:
    """Return where a worker keeps its results, as a Redis client understands it."""
    _, _, url = str(app.conf.result_backend).partition("+")
    return url
