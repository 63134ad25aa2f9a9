"""Start the API: `python -m api.main`."""

import uvicorn

from api.app import create_app
from api.settings import ApiSettings
from contracts.logs import configure_logging


def main() -> None:
    """Read the environment and serve until SIGTERM."""
    settings = ApiSettings()
    configure_logging("api", settings.log_level)
    uvicorn.run(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
