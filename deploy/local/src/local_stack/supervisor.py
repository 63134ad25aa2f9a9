"""One process that starts programs in order, shows their output, and stops them all together.

Nothing is restarted silently: a program that ends takes the others with it, and is named.
"""

import asyncio
import contextlib
import itertools
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TextIO

from local_stack.programs import POLL_SECONDS, Program, autogroup, ending_with_parent, kill_group

_COLOURS: Final = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
_LAST_LINES: Final = 15
_LAST_OUTPUT_SECONDS: Final = 1.0
_AUTOGROUP_TRIES: Final = 20
_MAX_LINE_BYTES: Final = 64 * 1024


class Screen:
    """Writes lines under their program's name, in its colour where colours are wanted."""

    def __init__(self, out: TextIO, names: Sequence[str], *, colours: bool) -> None:
        self._out = out
        self._width = max(map(len, [*names, "twinlane"]))
        palette = dict(zip(names, itertools.cycle(_COLOURS), strict=False))
        self._colours = palette if colours else {}

    def write(self, name: str, line: str) -> None:
        """Write a line, or several."""
        label = f"{name:<{self._width}} |"
        if name in self._colours:
            label = f"\033[{self._colours[name]}m{label}\033[0m"
        # A closed terminal is no reason to stop halfway through stopping.
        with contextlib.suppress(OSError):
            for part in line.split("\n"):
                print(label, part, file=self._out, flush=True)


class _Child:
    """A running program, with its last lines kept for a report."""

    def __init__(self, program: Program, process: asyncio.subprocess.Process) -> None:
        self.program = program
        self.process = process
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self.relay: asyncio.Task[None] | None = None

    async def relay_output(self, screen: Screen) -> None:
        """Pass the output on, line by line, until it is closed."""
        stream = self.process.stdout
        rest = b""
        while stream and (chunk := await stream.read(_MAX_LINE_BYTES)):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                text = line.decode(errors="replace").rstrip("\r")
                self.last_lines.append(text)
                screen.write(self.program.name, text)

    async def lower_priority(self) -> None:
        """Have other programs served first where the kernel shares out by session."""
        with contextlib.suppress(OSError):  # the process may have ended
            for _ in range(_AUTOGROUP_TRIES):
                try:
                    autogroup(self.process.pid).write_text(str(self.program.niceness))
                except BlockingIOError:  # the kernel takes one change in a tenth of a second
                    await asyncio.sleep(POLL_SECONDS)
                else:
                    return

    async def until_ready(self) -> None:
        """Wait until the program is ready, or raise TimeoutError."""
        async with asyncio.timeout(self.program.ready_within_seconds):
            while not await asyncio.to_thread(self.program.is_ready):  # noqa: ASYNC110 - it is a question to another process
                await asyncio.sleep(POLL_SECONDS)

    async def stop(self, screen: Screen) -> None:
        """End it with SIGTERM, and with SIGKILL if that takes too long."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), self.program.stop_within_seconds)
        except TimeoutError:
            seconds = self.program.stop_within_seconds
            screen.write(self.program.name, f"killed: still busy {seconds:g} s after SIGTERM")
            self.kill()
            await self.process.wait()
        kill_group(self.process.pid)

    def kill(self) -> None:
        """End it, and what it has started, with SIGKILL."""
        kill_group(self.process.pid)


class Supervisor:
    """Runs stages of programs: those of a stage start together, once the stage before is ready."""

    def __init__(
        self,
        stages: Sequence[Sequence[Program]],
        screen: Screen,
        on_ready: Callable[[dict[str, int]], None],
    ) -> None:
        self._stages = stages
        self._screen = screen
        self._on_ready = on_ready
        self._running: list[list[_Child]] = []
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until a signal or the end of a program; return the exit code, 0 after a signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        try:
            failure = await self._until_signal_or_failure()
            if failure:
                self._screen.write("twinlane", failure)
        finally:
            await self._stop_all()
        return 1 if failure else 0

    async def _until_signal_or_failure(self) -> str | None:
        work = asyncio.create_task(self._work())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        failure = work.result() if work.done() else None
        for task in (work, stop):
            task.cancel()
        await asyncio.wait({work, stop})
        return failure

    def _on_signal(self) -> None:
        if self._stop.is_set():  # asked twice
            for child in itertools.chain.from_iterable(self._running):
                child.kill()
        self._stop.set()

    async def _work(self) -> str:
        """Start everything and return what went wrong, which is what ends this."""
        for stage in self._stages:
            if failures := await self._start_stage(stage):
                return "\n".join(failures)
        children = list(itertools.chain.from_iterable(self._running))
        self._on_ready({child.program.name: child.process.pid for child in children})
        self._screen.write("twinlane", "ready")
        return await self._first_end(children)

    async def _start_stage(self, stage: Sequence[Program]) -> list[str]:
        """Start programs together, wait until all are ready, and return what went wrong."""
        children: list[_Child] = []
        self._running.append(children)
        for program in stage:
            # Noted one by one: those started so far must be found when the next one fails.
            children.append(await self._start(program))  # noqa: PERF401 - as just said
        results = await asyncio.gather(*map(self._await_ready, children))
        return [failure for failure in results if failure]

    async def _start(self, program: Program) -> _Child:
        child = _Child(program, await _spawn(program))
        if program.niceness:
            await child.lower_priority()
        child.relay = asyncio.create_task(child.relay_output(self._screen))
        return child

    async def _await_ready(self, child: _Child) -> str | None:
        """Wait until a child is ready; return what went wrong if it will not be."""
        started = time.monotonic()
        ready = asyncio.create_task(child.until_ready())
        end = asyncio.create_task(child.process.wait())
        await asyncio.wait({ready, end}, return_when=asyncio.FIRST_COMPLETED)
        try:
            if end.done():
                return await self._describe_end(child)
            if ready.exception():
                return _report(child, f"was not ready in {child.program.ready_within_seconds:g} s")
        finally:
            ready.cancel()
            end.cancel()
        self._screen.write(
            "twinlane", f"{child.program.name} is ready ({time.monotonic() - started:.1f} s)"
        )
        return None

    async def _first_end(self, children: list[_Child]) -> str:
        ends = {asyncio.create_task(child.process.wait()): child for child in children}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return "\n".join([await self._describe_end(ends[task]) for task in done])
        finally:
            for task in ends:
                task.cancel()

    async def _describe_end(self, child: _Child) -> str:
        # Its last lines may still be in the pipe, which its own children may hold open.
        if child.relay:
            await asyncio.wait({child.relay}, timeout=_LAST_OUTPUT_SECONDS)
        return _report(child, f"ended with exit code {child.process.returncode}")

    async def _stop_all(self) -> None:
        while self._running:
            stage = self._running.pop()
            if names := ", ".join(child.program.name for child in stage):
                self._screen.write("twinlane", f"stopping {names}")
            await asyncio.gather(*(child.stop(self._screen) for child in stage))
            for child in stage:
                if child.relay:
                    child.relay.cancel()
        self._screen.write("twinlane", "stopped")


async def _spawn(program: Program) -> asyncio.subprocess.Process:
    program.cwd.mkdir(parents=True, exist_ok=True)
    return await asyncio.create_subprocess_exec(
        *ending_with_parent(program.argv),
        env=program.env,
        cwd=program.cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # Ctrl-C reaches a terminal's whole process group; here it is for the supervisor, which
        # stops everything in order.
        start_new_session=True,
    )


def _report(child: _Child, what: str) -> str:
    head = f"{child.program.name} {what}. Stopping everything. Its last lines:"
    return "\n    ".join([head, *child.last_lines])
