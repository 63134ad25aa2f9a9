"""Several processes of one worker: started, watched, started again and stopped together.

They are forked from a process that has imported everything and has a single thread. So they start
at once and share the memory that never changes, and one that dies is replaced as quickly.
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
"""Serves until SIGTERM and returns the exit code. Gets the number of its process, from 1, and a
heartbeat: what to call again and again while it is connected."""

_POLL_SECONDS: Final = 0.25
_RESTART_DELAY_SECONDS: Final = 2.0
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_fork = multiprocessing.get_context("fork")
logger = logging.getLogger(__name__)


def run_processes(count: int, serve: Serve, heartbeat_file: Path | None) -> int:
    """Run `count` processes until SIGTERM, let them finish what they do, and return the exit code.

    The first one has to be ready before the others are started: wrong settings are reported once,
    and end everything. From then on, a process that ends is started again.

    `heartbeat_file` is as old as the oldest of the processes' last heartbeats.
    """
    return _Supervisor(count, serve, heartbeat_file).run()


class _Supervisor:
    def __init__(self, count: int, serve: Serve, heartbeat_file: Path | None) -> None:
        self._serve = serve
        self._heartbeat_file = heartbeat_file
        self._heartbeats = _fork.RawArray("d", count)
        """The last one of each process, by time.time(); 0 if there was none."""
        self._running: dict[int, ForkProcess] = {}
        self._start_at: dict[int, float] = {0: 0.0}
        """When processes that do not run are to be started, by time.monotonic()."""
        self._first_was_ready = False
        self._stopping = False
        self._exit_code = 0
        self._file_time = 0.0

    def run(self) -> int:
        # Signals are handled while this process waits and at no other moment: nothing is half done
        # then, and a process that is just being forked does not take them for its own.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        for number in _STOP_SIGNALS:
            signal.signal(number, self._stop)
        gc.freeze()  # or the first collection of each process would copy the memory that they share
        while self._running or self._start_at:
            self._start_due()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
            wait([process.sentinel for process in self._running.values()], _POLL_SECONDS)
            signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
            self._start_others_after_first()
            self._handle_ended()
            self._touch_heartbeat_file()
        return self._exit_code

    def _stop(self, *_: object) -> None:
        self._stopping = True
        self._start_at.clear()
        for process in self._running.values():
            process.terminate()

    def _start_due(self) -> None:
        now = time.monotonic()
        for index in [index for index, start_at in self._start_at.items() if start_at <= now]:
            del self._start_at[index]
            self._heartbeats[index] = 0
            self._running[index] = _fork.Process(target=self._run_child, args=(index, os.getpid()))
            self._running[index].start()

    def _start_others_after_first(self) -> None:
        if self._heartbeats[0] and not self._first_was_ready:
            self._first_was_ready = True
            if not self._stopping:
                self._start_at = dict.fromkeys(range(1, len(self._heartbeats)), 0.0)

    def _handle_ended(self) -> None:
        ended = {index: p for index, p in self._running.items() if p.exitcode is not None}
        for index, process in ended.items():
            del self._running[index]
            code = process.exitcode or 0
            if self._stopping:
                continue
            if not self._first_was_ready:
                self._exit_code = code if code > 0 else 1  # it has logged why
                continue
            logger.error("process %d ended with exit code %d: it is started again", index + 1, code)
            self._start_at[index] = time.monotonic() + _RESTART_DELAY_SECONDS

    def _touch_heartbeat_file(self) -> None:
        oldest = min(self._heartbeats)
        if self._heartbeat_file and oldest > self._file_time:
            self._heartbeat_file.touch()
            os.utime(self._heartbeat_file, (oldest, oldest))
            self._file_time = oldest

    def _run_child(self, index: int, parent: int) -> NoReturn:
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
        threading.Thread(target=_stop_without, args=(parent,), daemon=True).start()

        def heartbeat() -> None:
            self._heartbeats[index] = time.time()

        raise SystemExit(self._serve(index + 1, heartbeat))


def _stop_without(parent: int) -> None:
    """Stop this process, as SIGTERM does, once its parent is gone, even by SIGKILL."""
    # Not by waiting for multiprocessing's parent_process(): its pipe closes only once the siblings
    # forked later, which inherit the other end, are gone too.
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
