"""Several processes of one worker: started, watched, started again and stopped together.

They are forked from one that has imported everything and has a single thread. So they are there in
a moment, they share in memory what never changes, and one that dies is replaced as quickly.
"""

import gc
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Final, NoReturn

Serve = Callable[[int, Callable[[], None]], int]
"""Serves until SIGTERM: gets the process's number and what to call while it is connected and lives;
returns the exit code."""

_LOOK_SECONDS: Final = 0.25
_RESTART_SECONDS: Final = 2.0
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_fork = multiprocessing.get_context("fork")
logger = logging.getLogger(__name__)


def run_processes(count: int, serve: Serve, heartbeat_file: Path | None) -> int:
    """Run `count` processes until SIGTERM, let them finish what they do, and return the exit code.

    The first one has to be ready before the others are started: what is wrong with the settings is
    said once, and ends everything. From then on, a process that ends is started again.

    `heartbeat_file` is as old as the last sign of life of that process which gave none for longest.
    """
    return _Processes(count, serve, heartbeat_file).run()


class _Processes:
    def __init__(self, count: int, serve: Serve, heartbeat_file: Path | None) -> None:
        self._serve = serve
        self._heartbeat_file = heartbeat_file
        self._beats = _fork.RawArray("d", count)
        """When each process was last known to live, as time.time() says; 0 is never."""
        self._running: dict[int, ForkProcess] = {}
        self._due: dict[int, float] = {}
        """When processes that do not run are to be started, as time.monotonic() says."""
        self._first_was_ready = False
        self._stopping = False
        self._exit_code = 0
        self._shown = 0.0

    def run(self) -> int:
        # Signals come in while this process waits and at no other moment: nothing is half done
        # then, and what is just being forked does not take them for its own.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        for number in _STOP_SIGNALS:
            signal.signal(number, self._stop)
        gc.freeze()  # or the first collection of each process would copy the memory that they share
        self._due[0] = 0.0
        while self._running or self._due:
            self._start_due()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
            wait([process.sentinel for process in self._running.values()], _LOOK_SECONDS)
            signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
            self._note_that_the_first_is_ready()
            self._bury_the_dead()
            self._show_life()
        return self._exit_code

    def _stop(self, *_: object) -> None:
        self._stopping = True
        self._due.clear()
        for process in self._running.values():
            process.terminate()

    def _start_due(self) -> None:
        now = time.monotonic()
        for index in [index for index, due in self._due.items() if due <= now]:
            del self._due[index]
            self._beats[index] = 0
            self._running[index] = _fork.Process(target=self._work, args=(index, os.getpid()))
            self._running[index].start()

    def _bury_the_dead(self) -> None:
        ended = {index: p for index, p in self._running.items() if p.exitcode is not None}
        for index, process in ended.items():
            del self._running[index]
            code = process.exitcode or 0
            if self._stopping:
                continue
            if not self._first_was_ready:
                self._exit_code = code if code > 0 else 1  # it has said why
                continue
            logger.error("process %d ended with exit code %d: it is started again", index + 1, code)
            self._due[index] = time.monotonic() + _RESTART_SECONDS

    def _note_that_the_first_is_ready(self) -> None:
        if self._beats[0] and not self._first_was_ready:
            self._first_was_ready = True
            if not self._stopping:
                self._due = dict.fromkeys(range(1, len(self._beats)), 0.0)

    def _show_life(self) -> None:
        oldest = min(self._beats)
        if self._heartbeat_file and oldest > self._shown:
            self._heartbeat_file.touch()
            os.utime(self._heartbeat_file, (oldest, oldest))
            self._shown = oldest

    def _work(self, index: int, parent: int) -> NoReturn:
        """Be one of the processes."""
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()

        def beat() -> None:
            self._beats[index] = time.time()

        raise SystemExit(self._serve(index + 1, beat))


def _end_with(parent: int) -> None:
    """End this process, as SIGTERM does, when its parent is gone and nobody looks after it."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
