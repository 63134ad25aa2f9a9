"""The API's settings, read from the environment once, by main.py."""

from pydantic import Field, SecretStr

from contracts.settings import SharedSettings


class ApiSettings(SharedSettings):
    """Everything the API needs to know; sizes in bytes, times in seconds."""

    api_host: str = "127.0.0.1"
    api_port: int = 8000
    rabbitmq_management_url: SecretStr = Field(
        description="http://user:password@host:15672, for the numbers of the queues"
    )
    httpbin_url: str = "http://127.0.0.1:8080"
    fetch_allowed_hosts: str = Field(
        default="127.0.0.1", description="Hosts that jobs may call, comma-separated"
    )
    report_allowed_recipients: str = Field(
        default="@empresa.com", description="Addresses or @domains, comma-separated"
    )
    max_upload_bytes: int = Field(default=2 * 1024**3, ge=1)
    max_body_bytes: int = Field(default=16 * 1024**2, ge=1)
    max_batch_items: int = Field(default=10_000, ge=1)
    upload_ttl_seconds: int = Field(default=7 * 24 * 3600, ge=60)
    publish_timeout_seconds: float = Field(default=1.5, gt=0, le=1.9)
    settle_seconds: float = Field(
        default=600,
        gt=0,
        description="How long a job that was not confirmed is published again before it fails",
    )
    results_timeout_seconds: float = Field(default=1.0, gt=0, le=1.9)
