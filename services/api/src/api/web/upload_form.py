"""Uploads that come as a part of a multipart form."""

from typing import Final

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from api.errors.types import InvalidField, InvalidRequest, MalformedBody
from api.storage.uploads import Uploads
from contracts.storage import FileInfo

_OVERHEAD_BYTES: Final = 64 * 1024
"""What a form may have beside its file."""


async def receive_form(uploads: Uploads, request: Request) -> FileInfo:
    """Store the part `file` of a multipart form.

    Raises:
        BodyTooLarge: as soon as the limit is passed, while it streams.
        MalformedBody: it is not a form.
        InvalidRequest: there is no part `file`, or its name won't do.

    """
    form = await _parse(uploads, request)
    try:
        part = form.get("file")
        if not isinstance(part, UploadFile):
            rule = "a form needs one part `file` with a file"
            raise InvalidRequest([InvalidField(field="file", rule=rule)])
        return await uploads.keep(part.filename or "", part.file)
    finally:
        await form.close()


async def _parse(uploads: Uploads, request: Request) -> FormData:
    stream = uploads.limited(request.stream(), _OVERHEAD_BYTES)
    try:
        return await MultiPartParser(request.headers, stream, max_files=1).parse()
    except (MultiPartException, KeyError) as exc:
        raise MalformedBody(f"The multipart form can't be read: {exc}.") from exc
