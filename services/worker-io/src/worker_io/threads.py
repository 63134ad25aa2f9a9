"""Threads that are there before the first job.

A pool starts a thread when a job finds none free, and waits until that thread has run for the first
time: in a rush, behind all the threads that compute.
"""

import threading
from concurrent.futures import ThreadPoolExecutor


def start_all(executor: ThreadPoolExecutor, count: int) -> None:
    """Start `count` threads of a pool.

    Raises:
        RuntimeError: the system allows no more.

    """
    meeting = threading.Barrier(count + 1)
    try:
        for _ in range(count):
            executor.submit(meeting.wait)  # the pool takes a new thread while none is free
    except RuntimeError:
        meeting.abort()  # or those that are there would wait for ever
        raise
    meeting.wait()
