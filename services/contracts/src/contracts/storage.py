"""Where uploads, datasets and artifacts live: one storage URL, and the keys below it.

`file:///folder` is a local folder, `s3://bucket/prefix` any S3 server; its credentials and
endpoint come from the usual AWS_* variables.
"""

from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from obstore.store import LocalStore, ObjectStore, S3Store
from pydantic import BaseModel, ConfigDict

UPLOADS: Final = "uploads"
ARTIFACTS: Final = "artifacts"
DATASETS: Final = "datasets"

_MAX_NAME_BYTES: Final = 240
"""A file system's names end at 255, and a letter with an accent is six bytes here."""


class FileInfo(BaseModel):
    """An uploaded file. Its id is the SHA-256 of its content."""

    model_config = ConfigDict(frozen=True)

    id: str
    filename: str
    size_bytes: int
    uploaded_at: datetime


def open_storage(url: str) -> ObjectStore:
    """Open the storage that a URL names; a missing local folder is made.

    Raises:
        ValueError: the scheme is neither file nor s3.

    """
    parts = urlsplit(check_storage_url(url))
    if parts.scheme == "file":
        return LocalStore(Path(url2pathname(parts.path)), automatic_cleanup=True, mkdir=True)
    return S3Store(parts.netloc, prefix=parts.path.strip("/") or None)


def check_storage_url(url: str) -> str:
    """Return the URL of a storage that can be opened, as it was.

    Raises:
        ValueError: the scheme is neither file nor s3.

    """
    parts = urlsplit(url)
    is_folder = parts.scheme == "file" and not parts.netloc and bool(parts.path)
    if not is_folder and not (parts.scheme == "s3" and parts.netloc):
        raise ValueError(f"{url!r} is not supported: use file:///folder or s3://bucket/prefix")
    return url


def upload_key(file_id: str) -> str:
    """Return where the content of an uploaded file is."""
    return f"{UPLOADS}/content/{file_id.replace(':', '-')}"


def upload_info_key(file_id: str) -> str:
    """Return where the FileInfo of an uploaded content is."""
    return f"{UPLOADS}/info/{file_id.replace(':', '-')}.json"


def upload_name_key(filename: str) -> str:
    """Return where the FileInfo of the newest upload of that name is."""
    name = quote(filename, safe="")
    if len(name) > _MAX_NAME_BYTES:
        # A `+` is never in a quoted name, so this can't be the key of another one.
        name = f"{name[:100]}+{sha256(filename.encode()).hexdigest()}"
    return f"{UPLOADS}/names/{name}.json"


def artifact_prefix(job_id: str) -> str:
    """Return the folder of a job's artifacts."""
    return f"{ARTIFACTS}/{job_id}"


def artifact_key(job_id: str, name: str) -> str:
    """Return where one artifact of a job is."""
    return f"{artifact_prefix(job_id)}/{name}"
