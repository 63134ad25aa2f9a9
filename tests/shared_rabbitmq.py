"""One RabbitMQ for all processes of a run: it takes long to start, and tests have their vhosts.

pytest-xdist's controller starts it, before the first test, and outlives the workers that use it.
"""

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
from pydantic import TypeAdapter

from local_stack.install import MissingProgramError, ensure_servers
from servers import RabbitMQ, run_rabbitmq

_USERS: Final = "tests/integration/"
_INPUT: Final = "shared_rabbitmq"
_SERVER: Final = TypeAdapter(RabbitMQ)


class SharedRabbitMQ:
    """The controller's part."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self._folder = Path(self._running.enter_context(TemporaryDirectory(prefix="twinlane-")))
        self._address = self._folder / "address.json"

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - xdist has no types
        node.workerinput[_INPUT] = str(self._address)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Iterable[str]) -> None:
        """Start it if a test will use it. No test runs before every worker has come here."""
        if not self._address.exists() and any(nodeid.startswith(_USERS) for nodeid in ids):
            with suppress(MissingProgramError):  # who needs them will say so
                ensure_servers()  # here, and not in several workers at the same time
            server = self._running.enter_context(run_rabbitmq(self._folder / "rabbitmq"))
            self._address.write_bytes(_SERVER.dump_json(server))

    def pytest_sessionfinish(self) -> None:
        self._running.close()


def shared_rabbitmq(config: pytest.Config) -> RabbitMQ | None:
    """Return what the controller has started, or None where nobody has."""
    address = getattr(config, "workerinput", {}).get(_INPUT)
    return _SERVER.validate_json(Path(address).read_bytes()) if address else None
