"""Draws a number, and calls a low one a transient fault, to show what retries look like."""

import random
from typing import Final

from twinlane_sdk.errors import RetryableError

LOWEST: Final = 1
ENOUGH: Final = 7
HIGHEST: Final = 10


def draw(source: random.Random) -> int:
    """Return a number from ENOUGH to HIGHEST.

    Raises:
        RetryableError: the number drawn is lower.

    """
    number = source.randint(LOWEST, HIGHEST)
    if number < ENOUGH:
        raise RetryableError(f"drew {number}; {ENOUGH} or more is needed")
    return number
