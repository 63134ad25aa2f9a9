"""The message that makes the job of a dead letter run again."""

import json
from dataclasses import dataclass
from typing import Any, Final, Self

from pamqp.commands import Basic

from api.dead_letters.letter import DeadLetter
from api.errors.types import DeadLetterNotRequeueable
from contracts.messages import PERSISTENT, REQUEUES_HEADER
from twinlane_sdk.catalogue import Catalogue

_JSON: Final = "application/json"
_BROKER_HEADERS: Final = (
    "x-death",
    "x-first-death-",
    "x-last-death-",
    "x-delivery-",
    "x-acquired-",
)


@dataclass(frozen=True, slots=True)
class RequeuedMessage:
    """A message to publish: Celery's, as it was before it died, and marked as requeued."""

    letter: DeadLetter
    job_id: str
    requeues: int
    """How often the job was taken out of the dead letters, this time included."""
    queue: str
    body: bytes
    properties: Basic.Properties

    @classmethod
    def of(cls, catalogue: Catalogue, letter: DeadLetter, job_id: str, requeues: int) -> Self:
        """Return the message that runs a dead letter's job again.

        Raises:
            DeadLetterNotRequeueable: no worker could do anything with it.

        """
        spec = catalogue.get(letter.death.task or "")
        if spec is None:
            raise DeadLetterNotRequeueable(f"No worker knows the task {letter.death.task!r}.")
        return cls(
            letter=letter,
            job_id=job_id,
            requeues=requeues,
            queue=spec.lane.queue_name,
            body=_body(letter, requeues),
            properties=_properties(letter, requeues),
        )


def _properties(letter: DeadLetter, requeues: int) -> Basic.Properties:
    before = letter.properties
    return Basic.Properties(
        headers=_headers(letter, requeues),
        content_type=before.content_type,
        content_encoding=before.content_encoding,
        correlation_id=before.correlation_id,
        reply_to=before.reply_to,
        timestamp=before.timestamp,
        delivery_mode=PERSISTENT,
        # No message_id: aiormq tells returned messages apart by it, and needs it unique.
    )


def _headers(letter: DeadLetter, requeues: int) -> dict[str, Any]:
    kept = {
        name: value
        for name, value in (letter.properties.headers or {}).items()
        if not name.startswith(_BROKER_HEADERS)
    }
    return kept | {REQUEUES_HEADER: requeues, "retries": 0}


def _body(letter: DeadLetter, requeues: int) -> bytes:
    """Return the body of Celery's protocol 2, with the messages of later stages marked as well."""
    if letter.properties.content_type != _JSON:
        raise DeadLetterNotRequeueable(f"Its body is {letter.properties.content_type}, not JSON.")
    try:
        args, kwargs, embed = json.loads(letter.body)
        for signature in embed.get("chain") or []:
            signature["options"].setdefault("headers", {})[REQUEUES_HEADER] = requeues
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise DeadLetterNotRequeueable(f"Its body can't be read: {exc}.") from exc
    return json.dumps([args, kwargs, embed]).encode()
