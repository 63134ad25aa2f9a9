"""Deletes files whose lifetime is over."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import obstore
from obstore.store import ObjectStore

_CHUNK: Final = 1_000  # what S3 lists, and deletes, in one request


@dataclass(frozen=True, slots=True)
class Purged:
    """Files looked at so far, and those of them that were deleted."""

    seen: int = 0
    deleted: int = 0
    freed_bytes: int = 0


def purge(storage: ObjectStore, prefix: str, before: datetime) -> Iterator[Purged]:
    """Delete the files below `prefix` last modified before a time; yield the sums after each chunk.

    Memory does not grow with the number of files. A file that is gone already is no error.
    """
    sums = Purged()
    for chunk in obstore.list(storage, prefix, chunk_size=_CHUNK):
        expired = [file for file in chunk if file["last_modified"] < before]
        _delete(storage, [file["path"] for file in expired])
        sums = Purged(
            seen=sums.seen + len(chunk),
            deleted=sums.deleted + len(expired),
            freed_bytes=sums.freed_bytes + sum(file["size"] for file in expired),
        )
        yield sums


def _delete(storage: ObjectStore, paths: list[str]) -> None:
    try:
        obstore.delete(storage, paths)
    except FileNotFoundError:
        # Another purge was faster with one of them, and what came after it may still be there.
        for path in paths:
            with suppress(FileNotFoundError):
                obstore.delete(storage, path)
