"""Start the API: `python -m api.main`."""

import gc
import logging
import os
import signal
import sys
from functools import partial
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from api.app import create_app
from api.settings import ApiSettings
from api.web.request_limits import BoundedHeadProtocol
from contracts.logs import configure_logging
from contracts.settings import read_settings
from twinlane_tasks.catalogue import bundled_tasks

GC_THRESHOLD: Final = 50_000
"""Allocations between collections: requests leave few cycles, and a collection is a pause."""

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than proxies and clients keep idle connections: the one who asks must be who closes."""

_PROCESS_READY_SECONDS: Final = 30
"""What a process may take to start, or to say that it lives. On a busy machine it takes longer than
uvicorn's five seconds, and would be killed and started anew for ever."""

logger = logging.getLogger(__name__)


def main() -> None:
    """Read the environment and serve until SIGTERM."""
    settings = read_settings(ApiSettings)
    configure_logging("api", settings.log_level)
    if not settings.keys:
        reach = f"{settings.published_host}:{settings.api_port}"
        logger.warning("no API_KEYS: whoever reaches %s may do everything", reach)
    app = partial(create_process_app, settings)
    options: dict[str, Any] = {
        "factory": True,
        "host": settings.api_host,
        "port": settings.api_port,
        "loop": "uvloop",
        "http": BoundedHeadProtocol,  # it is httptools'
        "forwarded_allow_ips": settings.forwarded_allow_ips,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_worker_healthcheck": _PROCESS_READY_SECONDS,
        "log_config": None,
        "access_log": False,
        "server_header": False,
    }
    if settings.api_workers == 1:
        uvicorn.run(app, **options)
    else:
        _supervise(uvicorn.Config(app, workers=settings.api_workers, **options))


def create_process_app(settings: ApiSettings) -> FastAPI:
    """Create the API in the process that is to serve it, and prepare that."""
    if parent := parent_process():
        configure_logging("api", settings.log_level)
        Thread(target=_stop_after, args=(parent,), daemon=True).start()
    app = create_app(settings, bundled_tasks())
    gc.freeze()  # what start-up made stays: no need to look at it again
    gc.set_threshold(GC_THRESHOLD)
    return app


def _supervise(config: uvicorn.Config) -> None:
    """Run processes that share the port; replace those that die, and stop all on SIGTERM."""
    supervisor = Multiprocess(config, [config.bind_socket()])
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        sys.exit(STARTUP_FAILURE)


def _stop_after(supervisor: BaseProcess) -> None:
    """Stop this process once its supervisor is gone, even by SIGKILL: it would keep the port."""
    supervisor.join()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
