"""A job's message: Celery protocol 2 in JSON, so that any Celery client or worker reads it."""

from dataclasses import dataclass
from typing import Any, Final

from celery import Celery
from kombu.serialization import dumps

from contracts.records import JobRecord
from twinlane_sdk.catalogue import Catalogue

PERSISTENT: Final = 2
"""AMQP delivery mode of messages that survive a restart of the broker."""

REQUEUES_HEADER: Final = "requeues"
"""How often the job had been taken out of the dead letters when the message was sent."""
BATCH_HEADER: Final = "batch"
"""The batch that the job belongs to, which wants to hear of its end."""

_SHOWN_CHARACTERS: Final = 1_024


@dataclass(frozen=True, slots=True)
class JobMessage:
    """A job's message, ready for any AMQP client."""

    headers: dict[str, Any]
    body: bytes
    content_type: str
    content_encoding: str
    correlation_id: str


def build_message(app: Celery, catalogue: Catalogue, record: JobRecord) -> JobMessage:
    """Have Celery build the message of a job's first stage, with the later ones chained to it."""
    first, *later = record.stages
    own_headers = {BATCH_HEADER: record.batch} if record.batch else {}
    chain = [
        app.signature(
            stage.task,
            kwargs=catalogue[stage.task].known_arguments(record.args),
            options={
                "task_id": stage.id,
                "queue": catalogue[stage.task].lane.queue_name,
                "headers": own_headers,
            },
        )
        for stage in reversed(later)  # Celery takes the next one from the end
    ]
    arguments = catalogue[first.task].known_arguments(record.args)
    headers, properties, body, _ = app.amqp.as_task_v2(
        first.id,
        first.task,
        kwargs=arguments,
        kwargsrepr=shown_arguments(arguments),
        root_id=record.id,
        chain=chain or None,
    )
    headers |= own_headers | {"submitted_at": record.submitted_at.isoformat()}
    content_type, content_encoding, payload = dumps(body, "json")
    return JobMessage(
        headers=headers,
        body=payload.encode(),
        content_type=content_type,
        content_encoding=content_encoding,
        correlation_id=properties["correlation_id"],
    )


def shown_arguments(arguments: dict[str, Any]) -> str:
    """Return what Flower shows of a task's arguments. Celery's own takes ten times as long."""
    return repr(arguments)[:_SHOWN_CHARACTERS]
