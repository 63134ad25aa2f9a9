"""Dead letters as RabbitMQ delivers them."""

import json
from datetime import UTC, datetime
from typing import Any

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from api.dead_letters.letter import DeadLetter

DIED_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def x_death(reason: str, queue: str = "jobs.io") -> dict[str, Any]:
    return {"reason": reason, "queue": queue, "count": 1, "time": DIED_AT}


def letter(
    headers: dict[str, Any] | None = None, body: object = None, content_type: str | None = None
) -> DeadLetter:
    known: dict[str, Any] = {
        "id": "a-job",
        "task": "io.fetch_url",
        "x-death": [x_death("rejected")],
    }
    properties = Basic.Properties(
        headers=known if headers is None else headers,
        content_type=content_type or "application/json",
    )
    content = json.dumps([[], {}, EMBED] if body is None else body).encode()
    return DeadLetter.of(
        DeliveredMessage(
            delivery=Basic.Deliver(delivery_tag=1),
            header=ContentHeader(properties=properties),
            body=content,
            channel=None,  # type: ignore[arg-type]  # nothing is asked of it
        )
    )
