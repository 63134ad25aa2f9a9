"""Uploaded files: streamed in, named by the SHA-256 of their content, found again by name."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import BinaryIO, Final, cast

import obstore
from obstore.store import ObjectStore
from pydantic import TypeAdapter, ValidationError

from api.errors.rendering import validation_problem
from api.errors.types import BodyTooLarge, FileNotFound
from contracts.storage import FileInfo, upload_info_key, upload_key, upload_name_key
from twinlane_sdk.fields import FileName

_SPOOL_BYTES: Final = 1024**2
_filename = TypeAdapter(FileName)


class Uploads:
    """The uploads below the storage URL."""

    def __init__(self, storage: ObjectStore, max_bytes: int) -> None:
        self._storage = storage
        self._max_bytes = max_bytes

    async def receive(self, filename: str, stream: AsyncIterator[bytes]) -> FileInfo:
        """Store what a stream yields.

        Raises:
            BodyTooLarge: as soon as the limit is passed, while it streams.
            InvalidRequest: the name won't do.

        """
        _validate_filename(filename)
        with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as file:
            async for chunk in self.limited(stream):
                await asyncio.to_thread(file.write, chunk)
            return await self.keep(filename, cast("BinaryIO", file))

    async def limited(
        self, stream: AsyncIterator[bytes], overhead_bytes: int = 0
    ) -> AsyncGenerator[bytes]:
        """Yield what a stream yields, up to the limit and what the file may be wrapped in.

        Raises:
            BodyTooLarge: there is more.

        """
        received = 0
        async for chunk in stream:
            received += len(chunk)
            if received > self._max_bytes + overhead_bytes:
                raise BodyTooLarge(self._max_bytes, "MAX_UPLOAD_BYTES")
            yield chunk

    async def keep(self, filename: str, file: BinaryIO) -> FileInfo:
        """Store a file; its content first and names last, so that a name never leads nowhere.

        Raises:
            BodyTooLarge: it is larger than the limit.
            InvalidRequest: the name won't do.

        """
        _validate_filename(filename)
        digest, size = await asyncio.to_thread(_measure, file)
        if size > self._max_bytes:
            raise BodyTooLarge(self._max_bytes, "MAX_UPLOAD_BYTES")
        info = FileInfo(
            id=f"sha256:{digest}",
            filename=filename,
            size_bytes=size,
            uploaded_at=datetime.now(UTC),
        )
        await asyncio.to_thread(obstore.put, self._storage, upload_key(info.id), file)
        document = info.model_dump_json().encode()
        await obstore.put_async(self._storage, upload_info_key(info.id), document)
        await obstore.put_async(self._storage, upload_name_key(filename), document)
        return info

    async def info(self, file_id: str) -> FileInfo:
        """Return what is known of an uploaded file.

        Raises:
            FileNotFound: nothing of that id is stored.

        """
        info = await self._read_info(upload_info_key(file_id))
        if info is None:
            raise FileNotFound(file_id)
        return info

    async def newest_of_name(self, filename: str) -> FileInfo | None:
        """Return the newest upload of that name, if there is one."""
        return await self._read_info(upload_name_key(filename))

    async def _read_info(self, key: str) -> FileInfo | None:
        try:
            found = await obstore.get_async(self._storage, key)
        except FileNotFoundError:
            return None
        return FileInfo.model_validate_json(bytes(await found.bytes_async()))


def _validate_filename(filename: str) -> None:
    try:
        _filename.validate_python(filename)
    except ValidationError as exc:
        raise validation_problem(exc, within="filename") from exc


def _measure(file: BinaryIO) -> tuple[str, int]:
    """Return the SHA-256 in hex and the size in bytes, and rewind."""
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(_SPOOL_BYTES):
        digest.update(chunk)
    size = file.tell()
    file.seek(0)
    return digest.hexdigest(), size
