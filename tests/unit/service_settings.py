"""What a service makes of an environment, compared with its defaults."""

import os
from collections.abc import Mapping
from unittest.mock import patch

from contracts.settings import SharedSettings

_NEEDED = {
    "BROKER_URL": "amqp://user:password@127.0.0.1:1//",
    "RESULT_URL": "redis://:password@127.0.0.1:1/0",
    "RABBITMQ_MANAGEMENT_URL": "http://user:password@127.0.0.1:1",
}


def required(settings: type[SharedSettings]) -> set[str]:
    """Return the variables without which a service does not start."""
    fields = settings.model_fields.items()
    return {name.upper() for name, field in fields if field.is_required()}


def changed(settings: type[SharedSettings], environment: Mapping[str, str]) -> set[str]:
    """Return the variables to which an environment gives another value than the default."""
    needed = {name: _NEEDED[name] for name in required(settings)}
    defaults, found = _read(settings, needed), _read(settings, needed | dict(environment))
    names = defaults.keys() - needed.keys()
    return {name for name in names if found[name] != defaults[name]}


def _read(settings: type[SharedSettings], environment: Mapping[str, str]) -> dict[str, object]:
    with (
        patch.dict(os.environ, environment, clear=True),
        # A default on this machine must not be that of the example by chance.
        patch.object(os, "sched_getaffinity", return_value=range(512)),
    ):
        values = settings()
    return {name.upper(): getattr(values, name) for name in settings.model_fields}
