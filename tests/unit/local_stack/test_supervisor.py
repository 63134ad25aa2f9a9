"""The supervisor on small programs of its own."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from local_stack.programs import Program, autogroup
from local_stack.supervisor import Screen, Supervisor

_SLEEPS = "import time; time.sleep(60)"
_IGNORES_SIGTERM = "import pathlib, signal, time; signal.signal(15, signal.SIG_IGN)"


def _python(name: str, code: str, folder: Path) -> Program:
    return Program(name=name, argv=[sys.executable, "-c", code], env={}, cwd=folder / name)


def _run(
    stages: list[list[Program]], on_ready: Callable[[dict[str, int]], None] = lambda _: None
) -> tuple[int, list[str]]:
    out = io.StringIO()
    names = [program.name for stage in stages for program in stage]
    supervisor = Supervisor(stages, Screen(out, names, colours=False), on_ready)
    return asyncio.run(supervisor.run()), out.getvalue().splitlines()


def _stop_soon(_: dict[str, int]) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_output_stands_under_the_name_of_its_program(tmp_path: Path) -> None:
    code, lines = _run([[_python("speaker", "print('hello')", tmp_path)]])
    assert code == 1
    assert "speaker  | hello" in lines


def test_niceness_counts_for_the_whole_session_of_a_program(tmp_path: Path) -> None:
    seen: list[str] = []

    def look(pids: dict[str, int]) -> None:
        group = autogroup(pids["nice"])
        seen.append(group.read_text().split()[-1] if group.exists() else "7")
        _stop_soon(pids)

    nice = replace(_python("nice", _SLEEPS, tmp_path), niceness=7)
    assert _run([[nice]], look)[0] == 0
    assert seen == ["7"]


def test_an_endless_line_is_passed_on_in_pieces(tmp_path: Path) -> None:
    code, lines = _run([[_python("speaker", "print('x' * 500_000)", tmp_path)]])
    assert code == 1
    passed_on = [line.removeprefix("speaker  | ") for line in lines if line.startswith("speaker")]
    assert "".join(passed_on) == "x" * 500_000


def test_the_end_of_a_program_is_named_with_its_code_and_last_lines(tmp_path: Path) -> None:
    dying = "import sys; sys.exit('out of luck')"
    stages = [[_python("steady", _SLEEPS, tmp_path)]]
    code, lines = _run([*stages, [_python("dying", dying, tmp_path)]])
    assert code == 1
    report = lines[lines.index("dying    | out of luck") + 1 :]
    assert any("dying ended with exit code 1" in line for line in report)
    assert any(line.endswith("out of luck") for line in report)
    assert "twinlane | stopping steady" in report


def test_a_program_that_is_never_ready_is_named(tmp_path: Path) -> None:
    slow = replace(
        _python("slow", _SLEEPS, tmp_path), is_ready=lambda: False, ready_within_seconds=0.3
    )
    code, lines = _run([[slow]])
    assert code == 1
    assert any("slow was not ready in 0.3 s" in line for line in lines)


def test_a_program_that_can_not_be_started_leaves_the_others_stopped(tmp_path: Path) -> None:
    steady = _python("steady", _SLEEPS, tmp_path)
    missing = Program(name="missing", argv=["/no/such/program"], env={}, cwd=tmp_path)
    code, lines = _run([[steady], [missing]])
    assert code == 1
    assert any("missing" in line for line in lines)
    assert lines[-1] == "twinlane | stopped"


def test_a_stage_starts_when_the_one_before_is_ready(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    touches = f"import pathlib; pathlib.Path({str(mark)!r}).touch(); {_SLEEPS}"
    first = replace(_python("first", touches, tmp_path), is_ready=mark.exists)
    second = _python(
        "second",
        f"import pathlib; print(pathlib.Path({str(mark)!r}).exists())",
        tmp_path,
    )
    _, lines = _run([[first], [second]])
    assert "second   | True" in lines


def test_a_signal_stops_the_stages_last_one_first_and_is_no_failure(tmp_path: Path) -> None:
    stages = [[_python("server", _SLEEPS, tmp_path)], [_python("client", _SLEEPS, tmp_path)]]
    code, lines = _run(stages, _stop_soon)
    assert code == 0
    stops = [line for line in lines if "stopping" in line]
    assert stops == ["twinlane | stopping client", "twinlane | stopping server"]


def test_a_program_that_stays_busy_is_killed_after_its_grace(tmp_path: Path) -> None:
    deaf = f"{_IGNORES_SIGTERM}; pathlib.Path('deaf').touch(); time.sleep(60)"
    busy = replace(
        _python("busy", deaf, tmp_path),
        is_ready=(tmp_path / "busy" / "deaf").exists,
        stop_within_seconds=0.5,
    )
    code, lines = _run([[busy]], _stop_soon)
    assert code == 0
    assert "busy     | killed: still busy 0.5 s after SIGTERM" in lines


def test_colours_tell_programs_apart_only_where_they_are_wanted() -> None:
    plain, coloured = io.StringIO(), io.StringIO()
    Screen(plain, ["api", "beat"], colours=False).write("api", "hello")
    screen = Screen(coloured, ["api", "beat"], colours=True)
    screen.write("api", "hello")
    screen.write("beat", "hello")
    assert "\033" not in plain.getvalue()
    assert len({line.split("m")[0] for line in coloured.getvalue().splitlines()}) == 2
