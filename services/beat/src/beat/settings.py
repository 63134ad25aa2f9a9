"""Beat's settings, read from the environment once, by main.py."""

import tempfile
from pathlib import Path

from pydantic import Field

from contracts.settings import SharedSettings


class BeatSettings(SharedSettings):
    """Whom the monthly report goes to, and where beat remembers what it has done."""

    monthly_report_recipients: str = Field(
        default="", description="Addresses, comma-separated; none: no monthly report"
    )
    beat_state_file: Path = Field(
        default=Path(tempfile.gettempdir()) / "twinlane-beat",
        description="Kept over a restart, so that a tick missed meanwhile is made up for",
    )
    heartbeat_file: Path | None = Field(
        default=None, description="Touched while beat lives; for health checks"
    )

    @property
    def recipients(self) -> list[str]:
        """The addresses that get the monthly report."""
        return [part.strip() for part in self.monthly_report_recipients.split(",") if part.strip()]
