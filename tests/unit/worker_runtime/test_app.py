from pydantic import SecretStr

from contracts.settings import SharedSettings
from twinlane_tasks.catalogue import bundled_tasks
from worker_runtime.app import create_worker_app
from worker_runtime.result_backend import ResultBackend

NOBODY = SharedSettings(
    broker_url=SecretStr("amqp://nobody:nothing@127.0.0.1:1//"),
    result_url=SecretStr("redis://127.0.0.1:1/0"),
    job_ttl_seconds=3_600,
)


def test_delivery_is_at_least_once() -> None:
    # What FIELD-NOTES found to lose jobs or hang when it is left at its default.
    conf = create_worker_app(NOBODY, bundled_tasks()).conf
    expected = {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure": False,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "result_backend_always_retry": True,
        "result_backend_thread_safe": True,
        "accept_content": ["json"],
        "result_expires": 3_600,
    }
    assert {name: conf[name] for name in expected} == expected
    assert conf.broker_transport_options["confirm_publish"] is True


def test_redis_errors_are_retried() -> None:
    # Without celery[redis]'s `packaging` this is empty, and results are lost silently.
    backend = create_worker_app(NOBODY, bundled_tasks()).backend
    assert isinstance(backend, ResultBackend)
    assert backend.connection_errors
