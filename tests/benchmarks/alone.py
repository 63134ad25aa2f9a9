"""Work in a process of its own: it says what it took, and its peak memory is its own."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from local_stack.programs import Program, ending_with_parent


@dataclass(frozen=True)
class Cost:
    """What some work took, and what it answered."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    answer: Any


def run_alone(program: Program) -> Cost:
    """Run a program that does its work by `peers.cost.report` and return what it reports.

    Raises:
        subprocess.CalledProcessError: it failed; why is on our standard error.

    """
    ended = subprocess.run(
        ending_with_parent(program.argv),
        env=program.env,
        cwd=program.cwd,
        check=True,
        stdout=subprocess.PIPE,
    )
    return Cost(**json.loads(ended.stdout))
