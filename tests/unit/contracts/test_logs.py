import logging
import re
import subprocess
import sys

from contracts.logs import LineFormatter


def record(message: str, *args: object) -> logging.LogRecord:
    made = logging.LogRecord("io.fetch_url", logging.INFO, __file__, 1, message, args, None)
    made.created = 1_769_860_800.25
    return made


def test_line_has_time_level_service_logger_and_message() -> None:
    line = LineFormatter("worker-io").format(record("took %d s", 3))
    assert line == "2026-01-31T12:00:00.250Z INFO    worker-io io.fetch_url: took 3 s"


def test_trace_follows_the_line_of_its_error() -> None:
    made = record("failed")
    try:
        int("gone")
    except ValueError:
        made.exc_info = sys.exc_info()
    first, *trace = LineFormatter("api").format(made).splitlines()
    assert first.endswith("api io.fetch_url: failed")
    assert trace[-1] == "ValueError: invalid literal for int() with base 10: 'gone'"


def test_every_logger_of_a_process_writes_the_one_shape_to_standard_error() -> None:
    program = """
import logging
from contracts.logs import configure_logging
logging.basicConfig(format="another: %(message)s")
configure_logging("beat", "warning")
logging.getLogger("celery.beat").warning("late by %s s", 2)
logging.getLogger("celery.beat").info("not shown")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(r"[0-9T:.-]+Z WARNING beat celery\.beat: late by 2 s", line)
    assert done.stdout == ""
