"""The settings of the io lane's worker."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from contracts.settings import SharedSettings
from twinlane_sdk.allow_lists import HostAllowList, HostList, RecipientAllowList, RecipientList

_WEEK_SECONDS = 7 * 24 * 3600


class WorkerIoSettings(SharedSettings):
    """Read from the environment, once, by main.py."""

    # The error of a missing setting would otherwise quote others, and passwords among them.
    model_config = SettingsConfigDict(hide_input_in_errors=True)

    io_processes: int = Field(default=2, ge=1, le=64, description="Processes of the worker.")
    io_concurrency: int = Field(
        default=512, ge=1, le=1_000, description="Jobs at the same time, in each process."
    )

    smtp_host: str = "localhost"
    smtp_port: int = Field(default=25, ge=1, le=65_535)
    smtp_timeout_seconds: float = Field(default=10, gt=0, description="Of every single operation.")
    smtp_username: SecretStr | None = None
    smtp_password: SecretStr | None = None
    smtp_starttls: bool = False
    mail_from: str = Field(
        default="Twinlane <twinlane@localhost>",
        pattern=r"^[^\r\n]*[^\s<>@]+@[^\s<>@]+>?$",
        description="An address, or a name and <address>.",
    )
    report_allowed_recipients: RecipientList = Field(
        default="", description="Comma-separated, as RecipientAllowList reads it; empty is nobody."
    )

    fetch_allowed_hosts: HostList = Field(
        default="", description="Comma-separated, as HostAllowList reads it; empty is none."
    )
    fetch_private_hosts: HostList = Field(
        default="",
        description="Those of the allowed hosts that may be at private addresses, written alike.",
    )
    fetch_timeout_seconds: float = Field(
        default=20, gt=0, description="Of one address, its redirects and its body."
    )
    fetch_max_bytes: int = Field(default=10 * 1024 * 1024, ge=1)
    fetch_max_redirects: int = Field(default=5, ge=0)
    fetch_max_connections: int = Field(default=512, ge=1, description="Of each process.")
    fetch_max_per_host: int = Field(
        default=512, ge=1, description="Connections to one host, of each process."
    )
    fan_out_concurrency: int = Field(default=100, ge=1, description="Addresses at once, per job.")

    upload_ttl_seconds: int = Field(default=_WEEK_SECONDS, ge=60)
    artifact_ttl_seconds: int = Field(default=_WEEK_SECONDS, ge=60)

    worker_name: str | None = Field(
        default=None,
        pattern=r"^[\w.-]+$",
        description="Each process adds its number; by default made of lane and process id.",
    )
    heartbeat_file: Path | None = Field(
        default=None,
        description="Touched every few seconds while every process is connected to the broker.",
    )

    @property
    def allowed_hosts(self) -> HostAllowList:
        """Hosts that may be called."""
        return HostAllowList.parse(self.fetch_allowed_hosts)

    @property
    def private_hosts(self) -> HostAllowList:
        """Hosts that may be called at a private address."""
        return HostAllowList.parse(self.fetch_private_hosts)

    @property
    def allowed_recipients(self) -> RecipientAllowList:
        """Who may get a report."""
        return RecipientAllowList.parse(self.report_allowed_recipients)
