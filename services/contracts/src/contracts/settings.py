"""The settings that every service shares: where the broker, the results and the files are."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class SharedSettings(BaseSettings):
    """Read from the environment, once, by a service's main.py."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,  # compose and .env files write «not set» as an empty value
    )

    broker_url: SecretStr = Field(description="amqp://user:password@host:5672/vhost")
    result_url: SecretStr = Field(description="redis://:password@host:6379/0")
    storage_url: str = Field(
        default=f"file://{Path.cwd()}/.local/storage",
        description="file:///folder or s3://bucket/prefix",
    )
    job_ttl_seconds: int = Field(
        default=7 * 24 * 3600,
        ge=60,
        description="How long a job's record and result are kept.",
    )
    log_level: str = "INFO"
