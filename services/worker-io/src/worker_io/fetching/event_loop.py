"""One asyncio loop for all of a process's task threads: shared clients and hard deadlines."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class EventLoopThread:
    """An event loop in a daemon thread, started by the first submit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Start a coroutine on the loop; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._started())

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = uvloop.new_event_loop()
                # A daemon: what still runs when the worker has finished its jobs, nobody waits for.
                threading.Thread(
                    target=self._loop.run_forever, name="event-loop", daemon=True
                ).start()
            return self._loop
