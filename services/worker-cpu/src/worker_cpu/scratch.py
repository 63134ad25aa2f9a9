"""A folder of its own for every run of a job."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PREFIX: Final = "twinlane-"
_ABANDONED_SECONDS: Final = 24 * 3600


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
