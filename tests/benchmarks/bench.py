"""What measures are given: fresh servers, a place of one's own in them, a folder, a voice."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from redis import Redis as RedisClient

from integration.place import Place, new_place
from servers import RabbitMQ, Redis, run_rabbitmq, run_redis


@dataclass(frozen=True)
class Servers:
    """A RabbitMQ and a Redis that nobody else uses."""

    rabbitmq: RabbitMQ
    redis: Redis
    folder: Path

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Give a virtual host, an empty Redis and a folder; nothing of them is left after."""
        with (
            TemporaryDirectory(dir=self.folder) as folder,
            new_place(self.rabbitmq, self.redis, Path(folder)) as place,
        ):
            try:
                yield place
            finally:
                with RedisClient.from_url(place.result_url) as redis:
                    redis.flushall()

    def versions(self) -> dict[str, str]:
        """Return what the servers say that they are."""
        overview = httpx2.get(f"{self.rabbitmq.management_url}/api/overview", timeout=10)
        with RedisClient.from_url(f"{self.redis.url}0") as redis:
            info = redis.info("server")
        return {
            "RabbitMQ": str(overview.raise_for_status().json()["rabbitmq_version"]),
            "Redis": str(info["redis_version"]),
        }


@dataclass(frozen=True)
class Bench:
    """The surroundings of a measure."""

    folder: Path
    """For what the measure writes; removed in the end."""
    quick: bool
    """To try a measure: short rounds, whose figures mean little."""
    rounds: int
    """How often each side of a comparison runs."""
    say: Callable[[str], None]
    """Prints a line of progress."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of what the measures ran against, for the document; measures add to it."""

    @property
    def cores(self) -> int:
        return len(os.sched_getaffinity(0))

    def seconds(self, whole: float) -> float:
        """Return how long to do something that takes `whole` seconds in a whole run."""
        return min(whole, 2) if self.quick else whole

    @contextmanager
    def servers(self) -> Iterator[Servers]:
        """Start a RabbitMQ and a Redis: containers where Docker answers, else child processes."""
        with (
            TemporaryDirectory(dir=self.folder) as folder,
            run_rabbitmq(Path(folder) / "rabbitmq") as rabbitmq,
            run_redis(Path(folder) / "redis") as redis,
        ):
            servers = Servers(rabbitmq, redis, Path(folder))
            self.versions.update(servers.versions())
            yield servers
