import atexit
import gc
import os
from typing import Any, Final

import pytest

from distribution import Distribution
from progress import Progress

_PORTS_OF_WORKERS: Final = range(10_000, 20_000)
"""Apart from those that local_stack chooses from, for the stacks that tests start."""


@pytest.hookimpl(trylast=True)  # the terminal reporter is there by then
def pytest_configure(config: pytest.Config) -> None:
    worker_input = getattr(config, "workerinput", None)
    if worker_input:
        atexit.register(os._exit, 0)  # Python would take a second or two to take itself apart
        _choose_other_ports(int(worker_input["workerid"][2:]), worker_input["workercount"])
    elif config.get_verbosity() == 0:
        reporter = config.pluginmanager.getplugin("terminalreporter")
        config.pluginmanager.register(Progress(reporter))


def _choose_other_ports(number: int, workers: int) -> None:
    """Keep two workers that look for a free port at the same time from finding the same one."""
    ports = _PORTS_OF_WORKERS[number::workers]
    pytest.MonkeyPatch().setattr("local_stack.ports._CANDIDATES", ports)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Distribution:  # noqa: ANN401 - xdist has no types
    return Distribution(config, log)


def pytest_unconfigure() -> None:
    """Take Hypothesis out of the garbage collector.

    Its callback there would keep all that tests have imported alive until after Python's end, and
    DuckDB, which then finds its own objects alive, writes pages about leaks below the verdict.
    """
    gc.callbacks.clear()
