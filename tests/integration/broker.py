"""A virtual host of RabbitMQ, as tests look into it and disturb it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
from amqp.exceptions import NotFound
from kombu import Connection, Message

from contracts.topology import declare_topology
from integration.place import Place
from servers import eventually


class Broker:
    """What tests want of RabbitMQ. Counts come from the queues themselves, so they are exact."""

    def __init__(self, place: Place) -> None:
        self._url = place.broker_url
        self._vhost = urlsplit(place.broker_url).path.removeprefix("/")
        self._api = f"{place.management_url}/api"

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """Open a connection and yield a channel of it; kombu's types know too little of it."""
        with Connection(self._url) as connection, connection.channel() as channel:
            yield channel

    def declare(self) -> None:
        with Connection(self._url) as connection:
            declare_topology(connection)

    def ready(self, queue: str) -> int:
        """Return how many messages wait for a consumer."""
        with self.channel() as channel:
            count: int = channel.queue_declare(queue, passive=True).message_count
            return count

    def has(self, queue: str) -> bool:
        """Return whether a queue is there."""
        try:
            self.ready(queue)
        except NotFound:
            return False
        return True

    def unacknowledged(self, queue: str) -> int:
        """Return how many messages consumers hold; management knows it."""
        url = f"queues/{self._vhost}?disable_stats=true&enable_queue_totals=true"
        held = {found["name"]: found["messages_unacknowledged"] for found in self._call("GET", url)}
        return int(held[queue])

    def publish(
        self,
        queue: str,
        body: str = "[]",
        headers: Mapping[str, object] | None = None,
        content_type: str = "application/json",
    ) -> None:
        """Publish as a stranger would; `headers` are Celery's."""
        with self.channel() as channel:
            message = channel.prepare_message(
                body,
                content_type=content_type,
                content_encoding="utf-8",
                headers=headers,
                properties={"correlation_id": (headers or {}).get("id")},
            )
            channel.basic_publish_confirm(message, exchange="jobs", routing_key=queue)

    def take(self, queue: str) -> Message | None:
        """Take the next message away, if there is one."""
        with self.channel() as channel:
            raw = channel.basic_get(queue, no_ack=True)
            return channel.message_to_python(raw) if raw else None

    def reject(self, queue: str) -> None:
        """Take the next message and refuse it for good, as a worker that can't read it."""
        with self.channel() as channel:
            channel.basic_reject(self._next(channel, queue).delivery_tag, requeue=False)

    def die_with(self, queue: str) -> None:
        """Take the next message as a worker that dies with it, until the broker gives it up."""
        dead = self.ready("jobs.dead")
        while not eventually(lambda: self.ready("jobs.dead") > dead, 0.2):
            with self.channel() as channel:
                channel.basic_get(queue)

    def _next(self, channel: Any, queue: str) -> Any:  # noqa: ANN401 - kombu's types know too little
        found: list[Any] = []

        def take() -> bool:
            found.append(channel.basic_get(queue))
            return found[-1] is not None

        assert eventually(take), f"nothing comes to {queue}"
        return found[-1]

    def delete_queue(self, queue: str) -> None:
        with self.channel() as channel:
            channel.queue_delete(queue)

    def purge(self, queue: str) -> None:
        with self.channel() as channel:
            channel.queue_purge(queue)

    @contextmanager
    def limited_queue(self, queue: str, messages: int) -> Iterator[None]:
        """Make a queue full from that many messages on, inside."""
        self.limit_queue(queue, messages)
        yield
        self._call("DELETE", f"policies/{self._vhost}/full")

    def limit_queue(self, queue: str, messages: int) -> None:
        """Make a queue full from that many messages on."""
        policy = {
            "pattern": f"^{queue}$",
            "definition": {"max-length": messages},
            "apply-to": "queues",
        }
        self._call("PUT", f"policies/{self._vhost}/full", json=policy)

    def definitions(self) -> Any:  # noqa: ANN401 - JSON
        """Return everything that is declared, as RabbitMQ exports it."""
        return self._call("GET", f"definitions/{self._vhost}")

    def expire_queue(self, queue: str, milliseconds: int) -> None:
        """Let a queue keep messages for so long only."""
        policy = {
            "pattern": f"^{queue}$",
            "definition": {"message-ttl": milliseconds},
            "apply-to": "queues",
        }
        self._call("PUT", f"policies/{self._vhost}/short-lived", json=policy)

    def unlimit_queue(self) -> None:
        """Take the limit away again."""
        self._call("DELETE", f"policies/{self._vhost}/full")

    def connections(self) -> list[str]:
        """Return the names of the connections; a new one is listed within a second or so."""
        return [found["name"] for found in self._call("GET", f"vhosts/{self._vhost}/connections")]

    def close_connections(self) -> None:
        """Close every connection, as an operator can."""
        for name in self.connections():
            self._call("DELETE", f"connections/{quote(name, safe='')}")

    def _call(self, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401 - JSON
        answer = httpx2.request(method, f"{self._api}/{path}", timeout=10, **options)
        answer.raise_for_status()
        return answer.json() if answer.content else None


def headers_of(message: Message) -> dict[str, Any]:
    """Return a message's headers; kombu's types take them for text."""
    headers = message.headers
    assert isinstance(headers, dict)
    return headers
