"""Uploads: a multipart form or the bare file, streamed, named by content."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from api.auth.api_keys import Scope
from api.auth.scopes import needs
from api.components import Uses
from api.errors.openapi import responses
from api.errors.types import BodyTooLarge, FileNotFound, InvalidField, InvalidRequest, MalformedBody
from api.web.upload_form import receive_form
from contracts.storage import FileInfo
from twinlane_sdk.fields import FileId

PATH: Final = "/v1/files"
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}

router = APIRouter(prefix=PATH, tags=["files"])


class FileView(BaseModel):
    """An uploaded file."""

    id: str = Field(examples=[f"sha256:{'0' * 64}"], description="SHA-256 of the content.")
    filename: str
    size_bytes: int
    uploaded_at: datetime
    expires_at: datetime


@router.post(
    "",
    status_code=201,
    summary="Upload a file",
    responses=responses(MalformedBody, BodyTooLarge, InvalidRequest),
    openapi_extra=_BODY,
)
@needs(Scope.SUBMIT)
async def upload_file(
    components: Uses,
    request: Request,
    response: Response,
    filename: Annotated[
        str | None, Query(description="The file's name, when the body is the file itself.")
    ] = None,
) -> FileView:
    """Store the part `file` of a form, or the whole body under `?filename=`.

    The same content has the same id; a new file of a name stands for that name from then on.
    """
    if request.headers.get("Content-Type", "").startswith("multipart/form-data"):
        info = await receive_form(components.uploads, request)
    elif filename is None:
        rule = "say ?filename=…, or send a multipart form with a part `file`"
        raise InvalidRequest([InvalidField(field="filename", rule=rule)])
    else:
        info = await components.uploads.receive(filename, request.stream())
    response.headers["Location"] = f"{PATH}/{info.id}"
    return _view(info, components.settings.upload_ttl_seconds)


@router.get("/{file_id}", summary="Show an uploaded file", responses=responses(FileNotFound))
@needs(Scope.READ)
async def show_file(
    components: Uses, file_id: Annotated[FileId, Path(description="`sha256:` and 64 hex digits.")]
) -> FileView:
    """Return the name, size and lifetime of an uploaded file."""
    return _view(await components.uploads.info(file_id), components.settings.upload_ttl_seconds)


def _view(info: FileInfo, ttl_seconds: int) -> FileView:
    return FileView(
        **info.model_dump(), expires_at=info.uploaded_at + timedelta(seconds=ttl_seconds)
    )
