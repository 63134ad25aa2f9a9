from pydantic import SecretStr

from contracts.celery_app import create_celery
from contracts.settings import SharedSettings
from twinlane_tasks.catalogue import bundled_tasks

NOBODY = SharedSettings(
    broker_url=SecretStr("amqp://nobody:nothing@127.0.0.1:1//"),
    result_url=SecretStr("redis://127.0.0.1:1/0"),
    job_ttl_seconds=3_600,
)


def test_each_task_is_routed_to_the_queue_of_its_lane() -> None:
    catalogue = bundled_tasks()
    routes = create_celery(NOBODY, catalogue).conf.task_routes
    assert routes == {s.name: {"queue": s.lane.queue_name} for s in catalogue.values()}


def test_queue_that_nobody_declared_is_an_error_and_not_a_new_queue() -> None:
    conf = create_celery(NOBODY, bundled_tasks()).conf
    assert conf.task_create_missing_queues is False
    assert {queue.name for queue in conf.task_queues} == {"jobs.io", "jobs.cpu"}


def test_creating_the_application_connects_to_nothing_and_is_not_global() -> None:
    first, second = create_celery(NOBODY, bundled_tasks()), create_celery(NOBODY, bundled_tasks())
    assert first is not second
    assert first.conf.broker_url == second.conf.broker_url
