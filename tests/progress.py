"""How far a run is, instead of pytest's dots: suite, done and left, in one line."""

import shutil
import time
from collections import Counter
from collections.abc import Generator, Iterable
from typing import Any, Final

import pytest

_SECONDS_BETWEEN_LINES: Final = 10
"""Where lines stay: in a file, or in what CI shows."""


class Progress:
    """Shows a line that changes on a terminal, and a new one now and then elsewhere.

    What fails is shown at once. The names of those tests, and why, follow at the end as usual.
    """

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter
        self._totals: Counter[str] = Counter()
        self._done: Counter[str] = Counter()
        self._failures = 0
        self._started = self._shown = time.monotonic()
        reporter.showfspath = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._expect(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Iterable[str]) -> None:
        """Count what a worker has found, which is what all have found."""
        self._expect(ids)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
        """Have no letter shown; the summary at the end needs the rest."""
        category, _, word = yield
        return category, "", word

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failures += 1
            self._keep(f"failed: {report.nodeid} ({report.when})", red=True)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._done[_suite(nodeid)] += 1
        if self._reporter.isatty:
            # A line that wraps can't be written over.
            width = shutil.get_terminal_size().columns - 1
            self._reporter.rewrite(self._line()[:width], erase=True)
        elif time.monotonic() - self._shown > _SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            self._keep(self._line())

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        if self._totals:
            self._keep(self._line())

    def _expect(self, nodeids: Iterable[str]) -> None:
        self._totals = Counter(map(_suite, nodeids))

    def _keep(self, line: str, **markup: bool) -> None:
        """Write a line that stays, on a terminal over the one that changes."""
        if self._reporter.isatty:
            self._reporter.rewrite("", erase=True)
            self._reporter.rewrite("")
        self._reporter.write_line(line, **markup)

    def _line(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        suites = [self._state(suite) for suite in sorted(self._totals)]
        failed = [f"{self._failures} failed"] if self._failures else []
        return " | ".join([f"{minutes}:{seconds:02}", *suites, *failed])

    def _state(self, suite: str) -> str:
        done, total = self._done[suite], self._totals[suite]
        return f"{suite} {done}/{total}" + (f" left {total - done}" if done < total else "")


def _suite(nodeid: str) -> str:
    """Return the folder of `tests` that a test is in."""
    return nodeid.removeprefix("tests/").partition("/")[0]
