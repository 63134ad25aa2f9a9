"""Starts a pool's threads before the first job.

A pool starts a thread when a job finds none free, and waits until that thread has run for the first
time: under load, behind all the threads that compute.
"""

import threading
from concurrent.futures import ThreadPoolExecutor


def start_all(executor: ThreadPoolExecutor, count: int) -> None:
    """Start `count` threads of a pool.

    Raises:
        RuntimeError: the system allows no more.

    """
    all_started = threading.Barrier(count + 1)
    try:
        for _ in range(count):
            executor.submit(all_started.wait)  # the pool starts a thread while none is free
    except RuntimeError:
        all_started.abort()  # or those already started would wait for ever
        raise
    all_started.wait()
