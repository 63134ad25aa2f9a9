"""The stack without Docker as one process: `run` is what `up` starts detached."""

import asyncio
import os
from pathlib import Path
from typing import TextIO

from local_stack.install import ensure_servers
from local_stack.ports import check_ports
from local_stack.programs import Program
from local_stack.service_programs import LocalStack
from local_stack.settings import StackSettings
from local_stack.stack_folder import StackState, lock, write_state
from local_stack.supervisor import Screen, Supervisor


def run(folder: Path, settings: StackSettings, out: TextIO) -> int:
    """Run the stack until a signal, or until a part of it ends; return the exit code.

    Raises:
        StackError: it is running already, or a port is in use.
        MissingProgramError: RabbitMQ or Redis is missing.

    """
    folder = folder.absolute()
    ensure_servers()
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        check_ports(settings.ports_without_docker())
        stack = LocalStack.at(folder, settings)
        stages = stack.stages()
        screen = Screen(out, _names(stages), colours=_wants_colours(out, settings))

        def note_ready(pids: dict[str, int]) -> None:
            write_state(folder, _state(stack, pids))

        return asyncio.run(Supervisor(stages, screen, note_ready).run())


def _names(stages: list[list[Program]]) -> list[str]:
    return [program.name for stage in stages for program in stage]


def _wants_colours(out: TextIO, settings: StackSettings) -> bool:
    return out.isatty() and "NO_COLOR" not in settings.environment


def _state(stack: LocalStack, pids: dict[str, int]) -> StackState:
    return StackState(
        pid=os.getpid(),
        api_url=stack.api_url,
        places=stack.places(),
        mail_folder=str(stack.mail_folder),
        management_url=stack.rabbitmq.management_url,
        children=pids,
    )
