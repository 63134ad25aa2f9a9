"""Idempotent submission (the Idempotency-Key header): a request that is repeated is one job.

The id of the job is derived from who asks, the route and the key, so the job's own record is what
remembers the key, in every process and for as long as the job is known.
"""

import hashlib
import uuid
from typing import Annotated, Final

from fastapi import Depends, Header, Request, Response

from api.auth.access import caller_name
from api.jobs.keyed_submission import Identity

_KEYS: Final = uuid.UUID("9c5b7d0e-4d0b-4a37-8f3f-5d1b0c6d2a90")


class IdempotencyKey:
    """The request's key, if it has one."""

    def __init__(self, key_id: str | None) -> None:
        self._key_id = key_id

    def identity(self, *content: str | bytes | None) -> Identity | None:
        """Return what a submission of this content is known by; None without a key."""
        if self._key_id is None:
            return None
        digest = hashlib.sha256()
        for part in content:
            raw = part.encode() if isinstance(part, str) else part or b""
            digest.update(len(raw).to_bytes(8, "big") + raw)
        return Identity(self._key_id, digest.hexdigest())


class Idempotency(IdempotencyKey):
    """The request's key, and where its answer says that it is a repetition."""

    def __init__(self, key_id: str | None, response: Response) -> None:
        super().__init__(key_id)
        self._response = response

    def mark_replayed(self, *, replayed: bool) -> None:
        """Note in the answer whether the job was submitted by an earlier request."""
        self._response.headers.update(replayed_header(replayed=replayed))


def replayed_header(*, replayed: bool) -> dict[str, str]:
    """Return the header that an answer has if the job was submitted by an earlier request."""
    return {"Idempotency-Replayed": "true"} if replayed else {}


async def _key_id(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[\x21-\x7e]+$",
            description="Any text of your own: a request that is sent again with the same key and "
            "body gets the job of the first.",
        ),
    ] = None,
) -> str | None:
    if key is None:
        return None
    name = f"{caller_name(request)} {request.method} {request.url.path}\n{key}"
    return str(uuid.uuid5(_KEYS, name))


KeyId = Annotated[str | None, Depends(_key_id)]


async def _idempotency_key(key_id: KeyId) -> IdempotencyKey:
    return IdempotencyKey(key_id)


async def _idempotency(key_id: KeyId, response: Response) -> Idempotency:
    return Idempotency(key_id, response)


Keyed = Annotated[IdempotencyKey, Depends(_idempotency_key)]
"""For routes that make their Response themselves."""
Idempotent = Annotated[Idempotency, Depends(_idempotency)]
