"""Start the API: `python -m api.main`."""

import gc
from typing import Final

import uvicorn

from api.app import create_app
from api.settings import ApiSettings
from contracts.logs import configure_logging

GC_THRESHOLD: Final = 50_000
"""Allocations between collections: requests leave few cycles, and a collection is a pause."""


def main() -> None:
    """Read the environment and serve until SIGTERM."""
    settings = ApiSettings()
    configure_logging("api", settings.log_level)
    app = create_app(settings)
    gc.freeze()  # what start-up made lives as long as the process: no need to look at it again
    gc.set_threshold(GC_THRESHOLD)
    uvicorn.run(
        app,
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
