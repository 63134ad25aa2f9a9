"""The frames of a job's message, as they go to the broker.

Celery builds the first message of each task. What all messages of a task share is kept, encoded,
and later ones only get what is their own: building and encoding each anew costs six times as much.
"""

import json
import math
import struct
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import pamqp.frame
from celery import Celery
from kombu.transport.native_delayed_delivery import MAX_LEVEL, calculate_routing_key, level_name
from pamqp import encode
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.constants import FRAME_BODY, FRAME_END_CHAR, FRAME_HEADER
from pamqp.header import ContentHeader

from contracts.messages import BATCH_HEADER, PERSISTENT, JobMessage, build_message, shown_arguments
from contracts.records import JobRecord
from contracts.topology import JOBS
from twinlane_sdk.catalogue import Catalogue
from twinlane_sdk.task_spec import TaskSpec

_DELAY_EXCHANGE: Final = level_name(MAX_LEVEL)
_OWN_HEADERS: Final = frozenset({"id", "root_id", "kwargsrepr", "submitted_at", BATCH_HEADER})
"""What differs between two jobs of one task."""

# As AMQP 0-9-1 has them: a frame's type, channel and size; what a header's frame begins with.
_FRAME: Final = struct.Struct(">BHI")
_CONTENT: Final = struct.Struct(">HHQH")
_LONG: Final = struct.Struct(">I")
_TIMESTAMP: Final = struct.Struct(">Q")
_FLAGS: Final = sum(
    Basic.Properties.flags[name]
    for name in (
        "content_type",
        "content_encoding",
        "headers",
        "delivery_mode",
        "correlation_id",
        "message_id",
        "timestamp",
    )
)


class JobFrames:
    """Encodes jobs for one channel of one connection, whose frames may have so many bytes."""

    def __init__(
        self, celery: Celery, catalogue: Catalogue, channel: int, max_frame_bytes: int
    ) -> None:
        self._celery = celery
        self._catalogue = catalogue
        self._channel = channel
        self._max_content_bytes = max_frame_bytes - len(pamqp.frame.marshal(ContentBody(b""), 0))
        self._templates: dict[str, _Template] = {}

    def encode(self, record: JobRecord, now: datetime) -> bytes:
        """Return the frames that publish a job's first stage: mandatory, persistent."""
        exchange, routing_key = self._address(record, now)
        publish = _publish_frame(self._channel, exchange, routing_key)
        if len(record.stages) > 1:
            message = build_message(self._celery, self._catalogue, record)
            header = ContentHeader(0, len(message.body), properties(record, message))
            return b"".join(
                (publish, pamqp.frame.marshal(header, self._channel), *self._body(message.body))
            )
        template = self._template(record)
        body, header_payload = template.fill(record)
        return b"".join(
            (publish, _frame(FRAME_HEADER, self._channel, header_payload), *self._body(body))
        )

    def _address(self, record: JobRecord, now: datetime) -> tuple[str, str]:
        """Return exchange and routing key: those of the delay queues for a later start."""
        queue = self._catalogue[record.stages[0].task].lane.queue_name
        if record.run_at is None or record.run_at <= now:
            return JOBS.name, queue
        delay_seconds = math.ceil((record.run_at - now).total_seconds())
        return _DELAY_EXCHANGE, calculate_routing_key(delay_seconds, queue)

    def _template(self, record: JobRecord) -> "_Template":
        template = self._templates.get(record.task)
        if template is None:
            message = build_message(self._celery, self._catalogue, record)
            template = self._templates[record.task] = _Template(
                self._catalogue[record.task], message
            )
        return template

    def _body(self, body: bytes) -> list[bytes]:
        size = self._max_content_bytes
        return [
            _frame(FRAME_BODY, self._channel, body[start : start + size])
            for start in range(0, len(body), size)
        ]


class _Template:
    """What the messages of a task have in common."""

    def __init__(self, spec: TaskSpec[Any, Any], message: JobMessage) -> None:
        common = {k: v for k, v in message.headers.items() if k not in _OWN_HEADERS}
        _, _, embedded = json.loads(message.body)
        self._spec = spec
        self._after_arguments = f", {json.dumps(embedded)}]"
        self._headers = encode.field_table(common)[_LONG.size :]  # it begins with its size
        self._content_type = b"".join(
            encode.short_string(text) for text in (message.content_type, message.content_encoding)
        )

    def fill(self, record: JobRecord) -> tuple[bytes, bytes]:
        """Return a message's body and the payload of its header frame."""
        arguments = self._spec.known_arguments(record.args)
        body = f"[[], {json.dumps(arguments)}{self._after_arguments}".encode()
        long_id = _long_string(record.id)
        short_id = encode.short_string(record.id)
        headers = b"".join(
            (
                self._headers,
                b"\x02idS",
                long_id,
                b"\x07root_idS",
                long_id,
                b"\x0akwargsreprS",
                _long_string(shown_arguments(arguments)),
                b"\x0csubmitted_atS",
                _long_string(record.submitted_at.isoformat()),
                _batch_header(record.batch) if record.batch else b"",
            )
        )
        header = b"".join(
            (
                _CONTENT.pack(Basic.frame_id, 0, len(body), _FLAGS),
                self._content_type,
                _LONG.pack(len(headers)),
                headers,
                bytes((PERSISTENT,)),
                short_id,  # the correlation id, for Celery
                short_id,  # the message id, which comes back with what no queue takes
                _TIMESTAMP.pack(int(record.submitted_at.timestamp())),
            )
        )
        return body, header


def properties(record: JobRecord, message: JobMessage) -> Basic.Properties:
    """Return the AMQP properties of a job's message."""
    return Basic.Properties(
        headers=message.headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        correlation_id=message.correlation_id,
        delivery_mode=PERSISTENT,
        message_id=record.id,
        timestamp=record.submitted_at,
    )


@lru_cache(maxsize=64)
def _publish_frame(channel: int, exchange: str, routing_key: str) -> bytes:
    publish = Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True)
    return pamqp.frame.marshal(publish, channel)


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return b"".join((_FRAME.pack(kind, channel, len(payload)), payload, FRAME_END_CHAR))


def _batch_header(batch_id: str) -> bytes:
    return b"".join((encode.short_string(BATCH_HEADER), b"S", _long_string(batch_id)))


def _long_string(text: str) -> bytes:
    encoded = text.encode()
    return _LONG.pack(len(encoded)) + encoded
