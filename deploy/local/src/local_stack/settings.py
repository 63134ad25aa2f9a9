"""What a person may choose about the stack, from `.env` and the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from dotenv import dotenv_values


class SettingError(Exception):
    """A setting that can't be used; says which and why."""


@dataclass(frozen=True)
class StackSettings:
    """Ports are those that people open; the servers behind them take any free one."""

    root: Path
    environment: Mapping[str, str] = field(repr=False)
    api_port: int
    flower_port: int
    httpbin_port: int
    mail_port: int
    rabbitmq_management_port: int
    io_workers: int
    cpu_workers: int
    stop_grace_seconds: int
    flower_basic_auth: str = field(repr=False)
    docker: bool | None
    """Whether to use Docker; None is for whatever is there."""

    @classmethod
    def read(cls, root: Path, env_file: Path = Path(".env")) -> Self:
        """Read the environment and, under it, a file in the project's folder that may be absent."""
        values = {k: v for k, v in dotenv_values(root / env_file).items() if v}
        values |= {k: v for k, v in os.environ.items() if v}
        return cls(
            root=root,
            environment=values,
            api_port=_number(values, "API_PORT", 8000),
            flower_port=_number(values, "FLOWER_PORT", 5555),
            httpbin_port=_number(values, "HTTPBIN_PORT", 8080),
            mail_port=_number(values, "MAIL_PORT", 1080),
            rabbitmq_management_port=_number(values, "RABBITMQ_MANAGEMENT_PORT", 15672),
            io_workers=_number(values, "IO_WORKERS", 1),
            cpu_workers=_number(values, "CPU_WORKERS", 1),
            # Longer than an ordinary job, so that a stop is rarely the reason to repeat one.
            stop_grace_seconds=_number(values, "STOP_GRACE_SECONDS", 60),
            flower_basic_auth=values.get("FLOWER_BASIC_AUTH", "twinlane:twinlane"),
            docker=_docker(values.get("DOCKER")),
        )

    def first_job_key(self) -> str | None:
        """Return the API key of the stack's first job; None where the API has no keys.

        Raises:
            SettingError: the API has keys, and none is given.

        """
        key = self.environment.get("TWINLANE_API_KEY")
        if key is None and "API_KEYS" in self.environment:
            raise SettingError(
                "API_KEYS is set, TWINLANE_API_KEY is not: it must be a key with the scopes read "
                "and submit, for the first job that `make up` runs"
            )
        return key


def _number(values: Mapping[str, str], name: str, default: int) -> int:
    text = values.get(name, str(default))
    if not text.isdecimal():
        raise SettingError(f"{name} is {text!r}: it must be a number")
    return int(text)


def _docker(choice: str | None) -> bool | None:
    if choice not in {None, "0", "1"}:
        raise SettingError(
            f"DOCKER is {choice!r}: it must be 0 or 1, or absent to choose by itself"
        )
    return None if choice is None else choice == "1"
