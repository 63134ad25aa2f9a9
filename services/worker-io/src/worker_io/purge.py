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
class PurgeTotals:
    """How many files were looked at so far, how many of them deleted, and their size."""

    seen: int = 0
    deleted: int = 0
    freed_bytes: int = 0


def purge(storage: ObjectStore, prefix: str, before: datetime) -> Iterator[PurgeTotals]:
    """Delete files below `prefix` last modified before a time; yield totals after each chunk.

    Memory does not grow with the number of files. A file that is gone already is no error.
    """
    totals = PurgeTotals()
    for chunk in obstore.list(storage, prefix, chunk_size=_CHUNK):
        expired = [file for file in chunk if file["last_modified"] < before]
        _delete(storage, [file["path"] for file in expired])
        totals = PurgeTotals(
            seen=totals.seen + len(chunk),
            deleted=totals.deleted + len(expired),
            freed_bytes=totals.freed_bytes + sum(file["size"] for file in expired),
        )
        yield totals


def _delete(storage: ObjectStore, paths: list[str]) -> None:
    try:
        obstore.delete(storage, paths)
    except FileNotFoundError:
        # Another purge has deleted one of them; those that come after it may still be there.
        for path in paths:
            with suppress(FileNotFoundError):
                obstore.delete(storage, path)
