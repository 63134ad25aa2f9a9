"""A folder of its own for every run of a job, and stored objects as local files."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import obstore
from obstore.store import LocalStore, ObjectStore

_PREFIX: Final = "twinlane-"
_ABANDONED_SECONDS: Final = 24 * 3600
_DOWNLOAD_BYTES: Final = 4 * 1024 * 1024


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of killed workers: those that are too old for any job to use."""
    limit = time.time() - _ABANDONED_SECONDS
    for folder in parent.glob(f"{_PREFIX}*"):
        if folder.stat().st_mtime < limit:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Make a fresh folder below `parent` and remove it afterwards, also after an error."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent) as folder:
        yield Path(folder)


def local_file(
    storage: ObjectStore,
    key: str,
    target: Path,
    watch: Callable[[int, int], None] = lambda _done, _size: None,
) -> Path:
    """Return an object as a local file: in place in a local storage, else downloaded to `target`.

    `watch` is called with the bytes that are downloaded and the bytes of all.

    Raises:
        FileNotFoundError: there is no such object.

    """
    if isinstance(storage, LocalStore) and storage.prefix:
        path = Path(storage.prefix) / key
        path.stat()
        return path
    found = obstore.get(storage, key)
    with target.open("wb") as file:
        for chunk in found.stream(min_chunk_size=_DOWNLOAD_BYTES):
            file.write(chunk)
            watch(file.tell(), found.meta["size"])
    return target
