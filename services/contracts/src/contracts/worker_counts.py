"""What a worker answers when it is asked for its numbers."""

from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict

from twinlane_sdk.lanes import Lane

COUNT_TASKS: Final = "count_tasks"
"""Name of the remote-control command."""


class WorkerCount(BaseModel):
    """Tasks of one worker, and when the newest job that reached it was submitted."""

    model_config = ConfigDict(frozen=True)

    lane: Lane
    active: int
    reserved: int
    newest_submitted_at: datetime | None = None
