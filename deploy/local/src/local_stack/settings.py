"""What a person may choose about the stack, from `.env` and the environment."""

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self

from dotenv import dotenv_values

from local_stack.errors import StackError


class SettingError(StackError):
    """A setting that can't be used; says which and why."""


@dataclass(frozen=True, kw_only=True)
class StackSettings:
    """The project's folder, what a person chose, and the stack's own settings.

    Each field with a default is a setting, whose variable has the field's name in capitals. Ports
    are those that people open; the servers behind them take any free one.
    """

    root: Path
    environment: Mapping[str, str] = field(repr=False)
    """Every variable that has a value, the services' among them."""
    api_port: int = 8000
    flower_port: int = 5555
    mail_port: int = 1080
    rabbitmq_management_port: int = 15672
    httpbin_port: int = 8080
    flower_basic_auth: str = field(default="twinlane:twinlane", repr=False)
    docker: bool | None = None
    """Whether to use Docker; None is for whatever is there."""
    io_workers: int = 1
    cpu_workers: int = 1
    stop_grace_seconds: int = 60
    """Longer than an ordinary job, so that a stop is rarely the reason to repeat one."""
    rabbitmq_default_user: str = "twinlane"
    rabbitmq_default_pass: str = field(default="twinlane", repr=False)
    twinlane_api_key: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, root: Path, env_file: Path = Path(".env")) -> Self:
        """Read the environment and, under it, a file in the project's folder that may be absent.

        Raises:
            SettingError: a setting can't be used.

        """
        values = {k: v for k, v in dotenv_values(root / env_file).items() if v}
        values |= {k: v for k, v in os.environ.items() if v}
        own = {
            setting.name: _PARSERS.get(setting.type, _text)(setting.name.upper(), text)
            for setting in cls._fields()
            if (text := values.get(setting.name.upper()))
        }
        return cls(root=root, environment=values, **own)

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the names of the variables that are the stack's own settings."""
        return frozenset(setting.name.upper() for setting in cls._fields())

    @classmethod
    def _fields(cls) -> "list[Field[Any]]":
        return [found for found in fields(cls) if found.default is not MISSING]

    def ports_with_docker(self) -> dict[str, int]:
        """Return the ports that the containers publish, by the settings that choose them."""
        names = [found.name for found in self._fields() if found.name.endswith("_port")]
        return {name.upper(): getattr(self, name) for name in names}

    def ports_without_docker(self) -> dict[str, int]:
        """Return the ports that must be free without Docker, by the settings that choose them.

        Mail is kept in a folder, and RabbitMQ's pages take any free port unless one was chosen.
        """
        others = {"MAIL_PORT"} | {"RABBITMQ_MANAGEMENT_PORT"} - self.environment.keys()
        ports = self.ports_with_docker()
        return {name: port for name, port in ports.items() if name not in others}

    def first_job_key(self) -> str | None:
        """Return the API key of the stack's first job; None where the API has no keys.

        Raises:
            SettingError: the API has keys, and none is given.

        """
        if self.twinlane_api_key is None and "API_KEYS" in self.environment:
            raise SettingError(
                "API_KEYS is set, TWINLANE_API_KEY is not: it must be a key with the scopes read "
                "and submit, for the first job that `make up` runs"
            )
        return self.twinlane_api_key


def _text(_: str, text: str) -> str:
    return text


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise SettingError(f"{name} is {text!r}: it must be a number")
    return int(text)


def _zero_or_one(name: str, text: str) -> bool:
    if text not in {"0", "1"}:
        raise SettingError(f"{name} is {text!r}: it must be 0 or 1, or absent to choose by itself")
    return text == "1"


_PARSERS: Final[Mapping[object, Callable[[str, str], Any]]] = {
    int: _number,
    bool | None: _zero_or_one,
}
"""How a variable is read for a field of a type, given its name and its text."""
