"""A dead letter: what the headers of Celery and RabbitMQ say of its job and of its death."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from contracts.messages import REQUEUES_HEADER
from contracts.topology import DELIVERY_LIMIT

DELIVERY_LIMIT_REASON: Final = "delivery_limit"
REJECTED_REASON: Final = "rejected"

_EXPLANATIONS: Final = {
    DELIVERY_LIMIT_REASON: "each ended with the death of its worker or of its connection",
    REJECTED_REASON: "a worker could not read it or could not send it on",
    "expired": "it waited longer than its queue keeps messages",
    "maxlen": "its queue was full",
}


@dataclass(frozen=True, slots=True)
class Death:
    """How a message died; what is not known of a foreign message is None."""

    job_id: str | None
    task_id: str | None
    """The job's id, or that of the stage that died."""
    task: str | None
    queue: str | None
    reason: str
    count: int
    """How often a message died in this queue for this reason."""
    died_at: datetime | None
    submitted_at: datetime | None
    deliveries: int | None
    """How often a worker got it. Before RabbitMQ 4.3 it is known only at the limit."""
    requeues: int
    """How often the job had been taken out of the dead letters before."""

    @classmethod
    def of(cls, headers: Mapping[str, Any] | None) -> "Death":
        """Read the headers of a dead message; anybody may have written them."""
        headers = headers or {}
        last = _last_death(headers)
        reason = _text(last.get("reason")) or "unknown"
        task_id = _text(headers.get("id"))
        return cls(
            job_id=_text(headers.get("root_id")) or task_id,
            task_id=task_id,
            task=_text(headers.get("task")),
            queue=_text(last.get("queue")),
            reason=reason,
            count=_number(last.get("count")) or 1,
            died_at=_time(last.get("time")),
            submitted_at=_time(headers.get("submitted_at")),
            deliveries=_deliveries(headers, reason),
            requeues=_number(headers.get(REQUEUES_HEADER)) or 0,
        )

    @property
    def description(self) -> str:
        """Why the broker gave the message up, in a sentence."""
        plural = "y" if self.deliveries == 1 else "ies"
        after = f" after {self.deliveries} deliver{plural}" if self.deliveries else ""
        fact = f"the broker gave it up{after} ({self.reason})"
        explanation = _EXPLANATIONS.get(self.reason)
        return f"{fact}: {explanation}" if explanation else fact


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message of the dead letters, as it was found there."""

    id: str
    """Identifies the message: the same whenever it is read."""
    death: Death
    properties: Basic.Properties
    body: bytes
    tag: int
    """The delivery tag, valid on the channel that holds the message."""

    @classmethod
    def of(cls, message: DeliveredMessage) -> "DeadLetter":
        """Read a message; its id is made of all that stays the same of it."""
        properties = message.header.properties
        headers: dict[str, Any] = dict(properties.headers or {})
        death = Death.of(headers)
        identity = [
            *(death.task_id, death.queue, death.reason, str(death.died_at), death.requeues),
            *(str(headers.get("retries")), properties.message_id, properties.correlation_id),
        ]
        digest = hashlib.sha256(json.dumps(identity).encode())
        digest.update(message.body)
        return cls(
            id=digest.hexdigest()[:24],
            death=death,
            properties=properties,
            body=message.body,
            tag=message.delivery_tag or 0,
        )

    def copy_number(self, number: int) -> "DeadLetter":
        """Return this letter under an id of its own, if it is the n-th with the same content.

        Letters of the same content are interchangeable.
        """
        return self if number == 1 else replace(self, id=f"{self.id}-{number}")


def _last_death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the newest entry: x-first-death-* names the delay queue, for a job tried again."""
    deaths = headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return deaths[0]
    return {}


def _deliveries(headers: Mapping[str, Any], reason: str) -> int | None:
    if reason == DELIVERY_LIMIT_REASON:
        return DELIVERY_LIMIT + 1
    # RabbitMQ 4.3, which writes both, carries the lane's count over into the dead letters and does
    # not count readers that put back. Before, the dead letters' queue counts anew, readers too.
    if reason == REJECTED_REASON and "x-acquired-count" in headers:
        return _number(headers.get("x-delivery-count"))
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _time(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return value if isinstance(value, datetime) and value.tzinfo else None
