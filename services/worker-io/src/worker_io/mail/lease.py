"""Leases on what only one may do at a time, kept in the storage."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore

from twinlane_sdk.errors import RetryableError

logger = logging.getLogger(__name__)


@contextmanager
def held_lease(storage: ObjectStore, key: str, valid_for: timedelta) -> Iterator[None]:
    """Hold the lease `key` while inside, alone.

    Leases are objects `key/1`, `key/2` …; the storage lets only one create each. That of a holder
    who died stays: once it is older than `valid_for`, the next number may be created. So
    `valid_for` must be longer than anybody holds it, with a margin for clocks that differ.

    Raises:
        RetryableError: somebody else holds it.

    """
    mine = _acquire(storage, key, valid_for)
    try:
        yield
    finally:
        _release(storage, mine)


def _acquire(storage: ObjectStore, key: str, valid_for: timedelta) -> str:
    content = json.dumps(
        {
            "by": f"{os.getpid()}@{socket.gethostname()}",
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "token": uuid4().hex,  # no two leases are equal
        }
    ).encode()
    number = 1
    while not _create(storage, f"{key}/{number}", content):
        _check_expired(storage, f"{key}/{number}", valid_for)
        number += 1
    return f"{key}/{number}"


def _create(storage: ObjectStore, key: str, content: bytes) -> bool:
    try:
        obstore.put(storage, key, content, mode="create")
    except AlreadyExistsError:
        # It is ours all the same if only the storage's answer to an earlier try was lost.
        return _read(storage, key)[0] == content
    return True


def _check_expired(storage: ObjectStore, key: str, valid_for: timedelta) -> None:
    content, made_at = _read(storage, key)
    if datetime.now(UTC) - made_at < valid_for:
        raise RetryableError(
            f"another delivery of this job is at it ({content.decode(errors='replace')});"
            " looked at again later"
        )


def _read(storage: ObjectStore, key: str) -> tuple[bytes, datetime]:
    try:
        found = obstore.get(storage, key)
        return bytes(found.bytes()), found.meta["last_modified"]
    except FileNotFoundError as exc:
        raise RetryableError(
            "another delivery of this job has just ended; looked at again later"
        ) from exc


def _release(storage: ObjectStore, mine: str) -> None:
    try:
        with suppress(FileNotFoundError):
            obstore.delete(storage, mine)
    except (BaseError, OSError) as exc:
        # Whatever the lease was for is done, and the lease expires.
        logger.warning("lease %s was not removed: %s", mine, exc)
