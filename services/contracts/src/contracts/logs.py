"""The one log-line shape: time, level, service, logger, message, and the job where there is one."""

import logging
import sys
from datetime import UTC, datetime


class LineFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO  worker-io io.fetch_url[job-id]: message`."""

    def __init__(self, service: str) -> None:
        super().__init__("%(levelname)-7s " + service + " %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the time in UTC first."""
        moment = datetime.fromtimestamp(record.created, UTC)
        stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return f"{stamp} {super().format(record)}"


def configure_logging(service: str, level: str) -> None:
    """Send every log line of this process to standard error in the one shape."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for client in ("httpx2", "httpcore2"):
        # A line per call, with its full address: what matters of a call is logged by its job.
        logging.getLogger(client).setLevel(logging.WARNING)
