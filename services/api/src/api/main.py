"""Start the API: `python -m api.main`."""

import gc
import logging
from typing import Final

import uvicorn

from api.app import create_app
from api.head_limit import BoundedHeadProtocol
from api.settings import ApiSettings
from contracts.logs import configure_logging
from contracts.settings import read_settings

GC_THRESHOLD: Final = 50_000
"""Allocations between collections: requests leave few cycles, and a collection is a pause."""

logger = logging.getLogger(__name__)


def main() -> None:
    """Read the environment and serve until SIGTERM."""
    settings = read_settings(ApiSettings)
    configure_logging("api", settings.log_level)
    if not settings.keys:
        reach = f"{settings.published_host}:{settings.api_port}"
        logger.warning("no API_KEYS: whoever reaches %s may do everything", reach)
    app = create_app(settings)
    gc.freeze()  # what start-up made lives as long as the process: no need to look at it again
    gc.set_threshold(GC_THRESHOLD)
    uvicorn.run(
        app,
        host=settings.api_host,
        port=settings.api_port,
        http=BoundedHeadProtocol,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        log_config=None,
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
