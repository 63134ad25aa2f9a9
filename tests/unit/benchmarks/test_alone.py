import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.alone import run_alone
from local_stack.programs import Program, basic_env

TESTS = Path(__file__).parents[2]
MIB = 1024 * 1024
WORK = "from benchmarks.peers.cost import report\nreport(lambda: {})\n"


def python(work: str, folder: Path) -> Program:
    return Program(
        name="work",
        argv=[sys.executable, "-c", WORK.format(work)],
        env=basic_env(PYTHONPATH=str(TESTS)),
        cwd=folder,
    )


def test_work_says_its_answer_and_what_it_took(tmp_path: Path) -> None:
    cost = run_alone(python("sum(range(3_000_000))", tmp_path))

    assert cost.answer == sum(range(3_000_000))
    assert cost.seconds > 0
    assert cost.cpu_seconds > 0


def test_peak_is_of_the_work_even_if_it_gave_the_memory_back(tmp_path: Path) -> None:
    assert run_alone(python(f"len(b'x' * {200 * MIB})", tmp_path)).peak_bytes > 200 * MIB


def test_peak_is_not_that_of_who_started_it(tmp_path: Path) -> None:
    ours = b"x" * (200 * MIB)

    assert run_alone(python("1", tmp_path)).peak_bytes < len(ours)


def test_work_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_alone(python("1 / 0", tmp_path))
