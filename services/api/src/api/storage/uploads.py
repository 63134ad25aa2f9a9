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
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from api.errors.rendering import validation_problem
from api.errors.types import BodyTooLarge, FileNotFound, InvalidField, InvalidRequest, MalformedBody
from contracts.schemas import FileName
from contracts.storage import FileInfo, upload_info_key, upload_key, upload_name_key

_SPOOL_BYTES: Final = 1024**2
_FORM_OVERHEAD_BYTES: Final = 64 * 1024
_filename = TypeAdapter(FileName)


class Uploads:
    """The uploads below the storage URL."""

    def __init__(self, storage: ObjectStore, max_bytes: int) -> None:
        self._storage = storage
        self._max_bytes = max_bytes

    async def receive_form(self, headers: Headers, stream: AsyncIterator[bytes]) -> FileInfo:
        """Store the part `file` of a multipart form.

        Raises:
            BodyTooLarge: as soon as the limit is passed, while it streams.
            MalformedBody: it is not a form.
            InvalidRequest: there is no part `file`, or its name won't do.

        """
        limited = self._limited(stream, self._max_bytes + _FORM_OVERHEAD_BYTES)
        try:
            form = await MultiPartParser(headers, limited, max_files=1).parse()
        except (MultiPartException, KeyError) as exc:
            raise MalformedBody(f"The multipart form can't be read: {exc}.") from exc
        try:
            part = form.get("file")
            if not isinstance(part, UploadFile):
                raise InvalidRequest(
                    [InvalidField(field="file", rule="a form needs one part `file` with a file")]
                )
            return await self._keep(part.filename or "", part.file)
        finally:
            await form.close()

    async def receive_raw(self, filename: str, stream: AsyncIterator[bytes]) -> FileInfo:
        """Store a body that is the file itself.

        Raises:
            BodyTooLarge: as soon as the limit is passed, while it streams.
            InvalidRequest: the name won't do.

        """
        _validate_filename(filename)
        with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as file:
            async for chunk in self._limited(stream, self._max_bytes):
                await asyncio.to_thread(file.write, chunk)
            return await self._keep(filename, cast("BinaryIO", file))

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

    async def _limited(self, stream: AsyncIterator[bytes], limit: int) -> AsyncGenerator[bytes]:
        received = 0
        async for chunk in stream:
            received += len(chunk)
            if received > limit:
                raise BodyTooLarge(self._max_bytes, "MAX_UPLOAD_BYTES")
            yield chunk

    async def _keep(self, filename: str, file: BinaryIO) -> FileInfo:
        """Store content first and names last, so that a name never leads nowhere."""
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
