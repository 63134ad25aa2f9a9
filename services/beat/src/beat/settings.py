"""Beat's settings, read from the environment once, by main.py."""

import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, validate_email
from pydantic_core import PydanticCustomError

from contracts.settings import SharedSettings


def _addresses(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_addresses(text: str) -> str:
    for address in _addresses(text):
        try:
            validate_email(address)
        except PydanticCustomError as exc:
            raise ValueError(f"{address!r} is not an address: {exc.message()}") from exc
    return text


class BeatSettings(SharedSettings):
    """Whom the monthly report goes to, and where beat remembers what it has done."""

    monthly_report_recipients: Annotated[str, AfterValidator(_check_addresses)] = Field(
        default="", description="Addresses, comma-separated; none: no monthly report"
    )
    beat_state_file: Path = Field(
        default=Path(tempfile.gettempdir()) / "twinlane-beat",
        description="Kept over a restart, so that a tick missed meanwhile is submitted",
    )
    heartbeat_file: Path | None = Field(
        default=None, description="Touched every few seconds while beat runs; for health checks"
    )

    @property
    def recipients(self) -> list[str]:
        """The addresses that get the monthly report."""
        return _addresses(self.monthly_report_recipients)
