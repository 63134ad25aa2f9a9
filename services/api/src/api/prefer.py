"""The Prefer header, as far as it concerns waiting (RFC 7240)."""

import re
from typing import Final

MAX_WAIT_SECONDS: Final = 60
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?(?=$|[,;\s])", re.IGNORECASE)


def preferred_wait_seconds(header: str | None) -> int:
    """Return the seconds that a client would wait, at most MAX_WAIT_SECONDS; 0 without a wish.

    A preference that can't be read is ignored, as the RFC asks.
    """
    match = _WAIT.search(header or "")
    return min(int(match[1]), MAX_WAIT_SECONDS) if match else 0
