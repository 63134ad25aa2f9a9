"""Artifacts out of the storage: listed, and streamed with Range and ETag (RFC 9110)."""

import mimetypes
import re
from collections.abc import AsyncIterator
from datetime import datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import obstore
from obstore.store import ObjectStore
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from api.errors.types import ArtifactNotFound, RangeNotSatisfiable
from contracts.storage import artifact_key, artifact_prefix

if TYPE_CHECKING:
    from obstore import ObjectMeta  # known to its type stubs only

_CHUNK_BYTES: Final = 4 * 1024**2
_SINGLE_RANGE = re.compile(r"^bytes=(\d{0,18})-(\d{0,18})$")
_TYPES: Final = {".parquet": "application/vnd.apache.parquet"}


class ArtifactView(BaseModel):
    """A file that a job left behind."""

    name: str
    size_bytes: int
    media_type: str
    modified_at: datetime
    url: str


class ArtifactList(BaseModel):
    """All files of a job."""

    artifacts: list[ArtifactView]


async def list_artifacts(storage: ObjectStore, job_id: str) -> ArtifactList:
    """Return what a job has left behind, by name."""
    found = await obstore.list_with_delimiter_async(storage, f"{artifact_prefix(job_id)}/")
    views = [_view(job_id, meta) for meta in found["objects"]]
    return ArtifactList(artifacts=sorted(views, key=lambda view: view.name))


async def stream_artifact(
    storage: ObjectStore, job_id: str, name: str, headers: Headers
) -> Response:
    """Return an artifact, or the part of it that the client wants, or that it has it already.

    Raises:
        ArtifactNotFound: there is none of that name.
        RangeNotSatisfiable: the wanted range lies outside it.

    """
    key = artifact_key(job_id, name)
    if "/" in name or name.startswith("."):
        raise ArtifactNotFound(job_id, name)
    try:
        meta = await obstore.head_async(storage, key)
    except (FileNotFoundError, ValueError) as exc:  # ValueError: no file can have this name
        raise ArtifactNotFound(job_id, name) from exc
    common = _headers(meta, name)
    if _matches(headers.get("If-None-Match"), common["ETag"]):
        return Response(status_code=304, headers=common)
    wanted = _wanted_range(headers, meta["size"], common["ETag"])
    start, end = wanted or (0, meta["size"])
    common["Content-Length"] = str(end - start)
    if wanted:
        common["Content-Range"] = f"bytes {start}-{end - 1}/{meta['size']}"
    return StreamingResponse(
        _read(storage, key, start, end),
        status_code=206 if wanted else 200,
        headers=common,
        media_type=media_type(name),
    )


def media_type(name: str) -> str:
    """Return the media type that a file's name stands for."""
    for suffix, kind in _TYPES.items():
        if name.endswith(suffix):
            return kind
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _view(job_id: str, meta: "ObjectMeta") -> ArtifactView:
    name = meta["path"].rsplit("/", 1)[-1]
    return ArtifactView(
        name=name,
        size_bytes=meta["size"],
        media_type=media_type(name),
        modified_at=meta["last_modified"],
        url=f"/v1/jobs/{job_id}/artifacts/{quote(name)}",
    )


def _headers(meta: "ObjectMeta", name: str) -> dict[str, str]:
    etag = (meta["e_tag"] or f"{meta['last_modified'].timestamp()}-{meta['size']}").strip('"')
    return {
        "ETag": f'"{etag}"',
        "Last-Modified": format_datetime(meta["last_modified"], usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}",
        "X-Content-Type-Options": "nosniff",
    }


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    known = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return "*" in known or etag in known


def _wanted_range(headers: Headers, size: int, etag: str) -> tuple[int, int] | None:
    """Return first byte and the one after the last; None for all of it.

    Several ranges and units other than bytes may be ignored, and are.
    """
    match = _SINGLE_RANGE.match(headers.get("Range", ""))
    if not match or match.groups() == ("", ""):
        return None
    if headers.get("If-Range", etag) != etag:
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    else:
        start, end = max(0, size - int(last)), size
    if start >= end:
        raise RangeNotSatisfiable(size)
    return start, end


async def _read(storage: ObjectStore, key: str, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        stop = min(start + _CHUNK_BYTES, end)
        yield bytes(await obstore.get_range_async(storage, key, start=start, end=stop))
        start = stop
