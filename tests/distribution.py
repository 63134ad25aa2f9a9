"""Which tests one process runs one after the other, when several run a suite."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

_ONE_AT_A_TIME: Final = "tests/e2e/"
"""Tests that share a stack: some look at all that it does, or want it for themselves."""

_TOGETHER: Final = (
    # Servers or services of the file's take long to start.
    "tests/integration/api/test_routes.py",
    "tests/integration/api/test_batches.py",
    "tests/integration/test_broker_users.py",
    "tests/integration/api/test_dead_letters.py",
    "tests/integration/worker_runtime/test_executor.py",
    "tests/integration/worker_io/",
    # One of their tests takes less time than to hand it out.
    "tests/unit/api/",
    "tests/unit/benchmarks/",
    "tests/unit/contracts/",
    "tests/unit/sdk/",
    "tests/unit/tasks/",
    "tests/unit/test_",
    "tests/unit/worker_io/",
    "tests/unit/worker_runtime/",
)
"""Files of which one process runs all tests."""


class Distribution(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives a process that is free the next test, or the next tests that belong together.

    Those that belong together come first, as they take longest.
    """

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:  # noqa: ANN401 - xdist has no types
        """Refuse tests of one name: xdist would run the last of them only, and not say so."""
        twice = [nodeid for nodeid, count in Counter(collection).items() if count > 1]
        if twice:
            raise pytest.UsageError(f"several tests have the same id: {', '.join(twice)}")
        super().add_node_collection(node, collection)

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if path.startswith(_ONE_AT_A_TIME):
            return _ONE_AT_A_TIME
        return path if path.startswith(_TOGETHER) else nodeid
