"""Real servers for all tests, and in each a place of its own for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.broker import Broker
from integration.jobs import Jobs
from integration.place import Place, new_place
from servers import MailServer, RabbitMQ, Redis, run_rabbitmq, run_redis
from shared_rabbitmq import SharedRabbitMQ, shared_rabbitmq


def pytest_configure(config: pytest.Config) -> None:
    if config.option.numprocesses:
        config.pluginmanager.register(SharedRabbitMQ())


@pytest.fixture(scope="session")
def rabbitmq(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RabbitMQ]:
    if shared := shared_rabbitmq(pytestconfig):
        yield shared
        return
    with run_rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with run_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def broker_url(rabbitmq: RabbitMQ) -> Iterator[str]:
    """AMQP URL of a virtual host of the test's own."""
    with rabbitmq.vhost() as vhost:
        yield rabbitmq.broker_url(vhost)


@pytest.fixture
def management_url(rabbitmq: RabbitMQ) -> str:
    """URL of RabbitMQ's management, with user and password and without /api."""
    return rabbitmq.management_url


@pytest.fixture
def result_url(redis: Redis) -> str:
    """URL of a Redis database of the test's own."""
    return redis.database_url()


@pytest.fixture
def storage_url(tmp_path: Path) -> str:
    return (tmp_path / "storage").as_uri()


@pytest.fixture
def smtp() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def place(rabbitmq: RabbitMQ, redis: Redis, tmp_path: Path) -> Iterator[Place]:
    """Addresses of the test's own, for services that it starts."""
    with new_place(rabbitmq, redis, tmp_path) as place:
        yield place


@pytest.fixture
def broker(place: Place) -> Broker:
    """The test's own virtual host, with nothing declared in it."""
    return Broker(place)


@pytest.fixture
def jobs(place: Place) -> Iterator[Jobs]:
    jobs = Jobs(place)
    yield jobs
    jobs.celery.close()
    jobs.redis.close()
