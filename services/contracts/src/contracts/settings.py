"""The settings that every service shares: where the broker, the results and the files are."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.storage import check_storage_url

_MAX_ECHO_CHARACTERS: Final = 100

Settings = TypeVar("Settings", bound="SharedSettings")


class SharedSettings(BaseSettings):
    """Read from the environment, once, by a service's main.py."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,  # compose and .env files write «not set» as an empty value
    )

    broker_url: SecretStr = Field(description="amqp://user:password@host:5672/vhost")
    result_url: SecretStr = Field(description="redis://:password@host:6379/0")
    storage_url: Annotated[str, AfterValidator(check_storage_url)] = Field(
        default=f"file://{Path.cwd()}/.local/storage",
        description="file:///folder or s3://bucket/prefix",
    )
    job_ttl_seconds: int = Field(
        default=7 * 24 * 3600,
        ge=60,
        description="How long a job's record and result are kept.",
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(str.upper)
    ] = "INFO"


def read_settings(settings: type[Settings]) -> Settings:
    """Read a service's settings from the environment; called once, by its main.py.

    Raises:
        SystemExit: some can't be used; says which and why, a line each, and repeats no secret.

    """
    service = settings.__module__.partition(".")[0].replace("_", "-")
    try:
        return settings()
    except ValidationError as exc:
        lines = [f"{service}: {complaint}" for complaint in _complaints(settings, exc)]
        raise SystemExit("\n".join(lines)) from None


def _complaints(settings: type[SharedSettings], exc: ValidationError) -> Iterator[str]:
    for error in exc.errors(include_url=False):
        rule = " ".join(error["msg"].removeprefix("Value error, ").split())
        if error["loc"]:
            name = str(error["loc"][0])
            yield f"{name.upper()}: {rule}{_echo(settings, name, error)}"
        else:  # concerns several, and names them itself
            yield rule


def _echo(settings: type[SharedSettings], name: str, error: Mapping[str, Any]) -> str:
    field = settings.model_fields.get(name)
    secret = field is None or "SecretStr" in repr(field.annotation)
    # What a validator of ours says names the value already, as far as it may.
    if secret or error["type"] in {"missing", "value_error"}:
        return ""
    shown = repr(error["input"])
    return f" (it is {shown[:_MAX_ECHO_CHARACTERS]}{'…' * (len(shown) > _MAX_ECHO_CHARACTERS)})"
