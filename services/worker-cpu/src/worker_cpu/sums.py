"""Sums after a simulated processing time: the only simulated work of the product."""

import time
from collections.abc import Callable

from worker_cpu.progress import Progress

_STEP_SECONDS = 0.5


def simulate_processing(
    seconds: float, progress: Progress, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Take `seconds`, in small steps, and report each second that is done."""
    done = 0.0
    while done < seconds:
        progress(int(done), round(seconds), "seconds", "simulated processing")
        step = min(_STEP_SECONDS, seconds - done)
        sleep(step)
        done += step


def add(a: int, b: int) -> int:
    """Return the exact sum, whatever the size."""
    return a + b
