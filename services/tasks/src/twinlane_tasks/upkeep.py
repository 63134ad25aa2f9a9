"""What keeps an installation in order."""

from datetime import timedelta
from typing import Final

from twinlane_sdk.lanes import Lane
from twinlane_sdk.task_spec import Args, Result, TaskSpec


class PurgeFilesArgs(Args):
    """Nothing: lifetimes are settings."""


class PurgeFilesResult(Result):
    """What had expired."""

    uploads: int
    artifacts: int
    freed_bytes: int


PURGE_FILES: Final = TaskSpec(
    name="io.purge_files",
    lane=Lane.IO,
    args=PurgeFilesArgs,
    result=PurgeFilesResult,
    summary="Delete uploads and artifacts whose lifetime is over.",
    deadline=timedelta(minutes=10),
)

TASKS: Final = (PURGE_FILES,)
