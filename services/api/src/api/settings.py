"""The API's settings, read from the environment once, by main.py."""

from ipaddress import ip_address
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from api.auth.api_keys import KeysByDigest, parse_keys
from api.auth.rate_limits import check_limit
from contracts.settings import SharedSettings
from twinlane_sdk.allow_lists import HostList, RecipientList


def _check_keys(text: SecretStr) -> SecretStr:
    parse_keys(text.get_secret_value())
    return text


class ApiSettings(SharedSettings):
    """Everything the API needs to know; sizes in bytes, times in seconds."""

    api_host: str = "127.0.0.1"
    api_port: int = 8000
    api_workers: int = Field(default=1, ge=1, le=64, description="Processes that share the port")
    api_published_host: str | None = Field(
        default=None, description="Where the port can be reached, if not where it is bound"
    )
    api_keys: Annotated[SecretStr, AfterValidator(_check_keys)] = Field(
        default=SecretStr(""), description="name:scope+scope:sha256hex, comma-separated"
    )
    rate_limit_per_key: Annotated[str, AfterValidator(check_limit)] = "1000/second"
    rate_limit_per_address: Annotated[str, AfterValidator(check_limit)] = "2000/second"
    forwarded_allow_ips: str = Field(
        default="127.0.0.1", description="Proxies that may say who the client is (X-Forwarded-For)"
    )
    rabbitmq_management_url: SecretStr = Field(
        description="http://user:password@host:15672, for the numbers of the queues"
    )
    httpbin_url: str = "http://127.0.0.1:8080"
    fetch_allowed_hosts: HostList = Field(
        default="127.0.0.1", description="Hosts that jobs may call, comma-separated"
    )
    report_allowed_recipients: RecipientList = Field(
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

    @property
    def keys(self) -> KeysByDigest:
        """The keys that callers may have; none: everybody may do everything."""
        return parse_keys(self.api_keys.get_secret_value())

    @property
    def published_host(self) -> str:
        """The address at which the API's port can be reached."""
        return self.api_published_host or self.api_host

    @model_validator(mode="after")
    def _open_only_on_this_machine(self) -> Self:
        if not self.keys and not _is_loopback(self.published_host):
            raise ValueError(
                f"API_KEYS: none are set, and the port can be reached at {self.published_host}: "
                "make one with `python -m api.auth.api_keys`, or publish the port on 127.0.0.1 "
                "and say so with API_PUBLISHED_HOST"
            )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
