"""A folder of its own for every run of a job."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Make a fresh folder below `parent` and remove it afterwards, also after an error."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="twinlane-", dir=parent) as folder:
        yield Path(folder)
