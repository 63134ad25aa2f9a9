"""GETs of addresses on allowed hosts."""

from datetime import timedelta
from typing import Final

from pydantic import Field

from twinlane_sdk.fields import WebAddress
from twinlane_sdk.lanes import Lane
from twinlane_sdk.task_spec import Args, Result, TaskSpec

MAX_FAN_OUT_URLS = 1_000


class FetchUrlArgs(Args):
    """An http or https address on an allowed host."""

    url: WebAddress = Field(examples=["http://httpbin:8080/delay/1"])


class FetchUrlResult(Result):
    """How the address answered. 4xx is an answer; 5xx and timeouts are retried."""

    url: str
    status: int
    elapsed_seconds: float
    size_bytes: int
    content_type: str | None = None


class FanOutArgs(Args):
    """Many addresses, called at the same time within one job."""

    urls: list[WebAddress] = Field(
        min_length=1,
        max_length=MAX_FAN_OUT_URLS,
        examples=[["http://httpbin:8080/delay/1", "http://httpbin:8080/status/404"]],
    )


class FanOutResult(Result):
    """The answers, in the order of the addresses, and the time all of them took together."""

    responses: list[FetchUrlResult]
    elapsed_seconds: float


FETCH_URL: Final = TaskSpec(
    name="io.fetch_url",
    lane=Lane.IO,
    args=FetchUrlArgs,
    result=FetchUrlResult,
    summary="GET an address on an allowed host.",
    deadline=timedelta(minutes=1),
)


FAN_OUT: Final = TaskSpec(
    name="io.fan_out",
    lane=Lane.IO,
    args=FanOutArgs,
    result=FanOutResult,
    summary="GET many addresses at the same time.",
    deadline=timedelta(minutes=5),
)

TASKS: Final = (FETCH_URL, FAN_OUT)
