"""Where a test's services meet: a virtual host, a Redis database and a folder of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from contracts.settings import SharedSettings
from servers import RabbitMQ, Redis


@dataclass(frozen=True)
class Place:
    """The addresses that make services find each other, and nobody else's."""

    broker_url: str
    result_url: str
    management_url: str
    folder: Path

    @property
    def storage_url(self) -> str:
        return (self.folder / "storage").as_uri()

    def environment(self) -> dict[str, str]:
        """Return the addresses as a service's settings."""
        return {
            "BROKER_URL": self.broker_url,
            "RESULT_URL": self.result_url,
            "STORAGE_URL": self.storage_url,
            "RABBITMQ_MANAGEMENT_URL": self.management_url,
        }

    def settings(self) -> SharedSettings:
        return SharedSettings(
            broker_url=SecretStr(self.broker_url),
            result_url=SecretStr(self.result_url),
            storage_url=self.storage_url,
        )


@contextmanager
def new_place(rabbitmq: RabbitMQ, redis: Redis, folder: Path) -> Iterator[Place]:
    with rabbitmq.vhost() as vhost:
        yield Place(
            broker_url=rabbitmq.broker_url(vhost),
            result_url=redis.database_url(),
            management_url=rabbitmq.management_url,
            folder=folder,
        )
