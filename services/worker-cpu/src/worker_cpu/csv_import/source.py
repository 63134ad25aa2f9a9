"""Brings an upload within reach as a plain local file: downloaded and decompressed if need be."""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import obstore
from obstore.store import LocalStore, ObjectStore

from contracts.errors import RejectedError
from contracts.storage import upload_key
from worker_cpu.progress import Progress

GZIP_MAGIC: Final = b"\x1f\x8b"

_CHUNK_BYTES: Final = 4 * 1024 * 1024


def fetch_upload(
    storage: ObjectStore, file_id: str, scratch: Path, limit_bytes: int, progress: Progress
) -> Path:
    """Return the uploaded file as a local, uncompressed one; local storage is read in place.

    Raises:
        RejectedError: there is no such upload, its gzip is broken, or it is above `limit_bytes`.

    """
    try:
        path = _local_copy(storage, upload_key(file_id), scratch / "upload", progress)
    except FileNotFoundError as exc:
        raise RejectedError(
            f"the uploaded file {file_id} is no longer stored: upload it again"
        ) from exc
    if _is_gzip(path):
        path = _decompressed(path, scratch / "decompressed", limit_bytes, progress)
    if path.stat().st_size > limit_bytes:
        raise _too_large(limit_bytes)
    return path


def _local_copy(storage: ObjectStore, key: str, target: Path, progress: Progress) -> Path:
    size = obstore.head(storage, key)["size"]
    if isinstance(storage, LocalStore) and storage.prefix:
        return Path(storage.prefix) / key
    with target.open("wb") as file:
        done = 0
        for chunk in obstore.get(storage, key).stream(min_chunk_size=_CHUNK_BYTES):
            done += file.write(chunk)
            progress(done, size, "bytes", "downloading")
    return target


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


def _decompressed(source: Path, target: Path, limit_bytes: int, progress: Progress) -> Path:
    size = source.stat().st_size
    try:
        with source.open("rb") as packed, gzip.open(packed) as plain, target.open("wb") as file:
            for chunk in _bounded(iter(lambda: plain.read(_CHUNK_BYTES), b""), limit_bytes):
                file.write(chunk)
                progress(packed.tell(), size, "bytes", "decompressing")
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        raise RejectedError(f"the gzip file is broken: {exc}") from exc
    return target


def _bounded(chunks: Iterable[bytes], limit_bytes: int) -> Iterator[bytes]:
    """Pass on `chunks` up to a limit: a small gzip file may hold a very large one."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit_bytes:
            raise _too_large(limit_bytes)
        yield chunk


def _too_large(limit_bytes: int) -> RejectedError:
    return RejectedError(f"the file holds more than {limit_bytes:,} bytes: split it")
