"""`python -m local_stack up|run|down|logs`, which the Makefile's targets call."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from local_stack import compose, lifecycle
from local_stack.errors import StackError
from local_stack.first_job import run_first_job, summary
from local_stack.settings import StackSettings
from local_stack.stack_folder import LOG, is_running

_FOLDER: Final = Path(".local/stack")
_EXAMPLE: Final = Path("examples/vendas.csv")


def main() -> int:
    """Do what the command line asks for, in the project's folder."""
    parser = argparse.ArgumentParser(prog="local_stack")
    parser.add_argument("command", choices=("up", "run", "down", "logs"))
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="of the stack without Docker")
    parser.add_argument("--env-file", type=Path, default=Path(".env"), help="default: .env")
    arguments = parser.parse_args()
    command = {"up": _up, "run": _run, "down": _down, "logs": _logs}[arguments.command]
    try:
        return command(StackSettings.read(Path.cwd(), arguments.env_file), arguments.folder)
    except StackError as exc:
        print(f"error: {exc}", file=sys.stderr)  # noqa: T201 - the command's answer
        return 1
    except KeyboardInterrupt:
        if arguments.command == "up":
            print("interrupted; `make down` stops what has started", file=sys.stderr)  # noqa: T201
        return 130


def _up(settings: StackSettings, folder: Path) -> int:
    key = settings.first_job_key()  # asked for before anything is started
    if _wants_docker(settings, folder):
        api_url, places = f"http://localhost:{settings.api_port}", compose.start(settings)
    else:
        state = lifecycle.start(folder, settings)
        api_url, places = state.api_url, state.places
    job = run_first_job(api_url, settings.root / _EXAMPLE, key)
    print(*_report(api_url, job, places), sep="\n")  # noqa: T201 - the command's answer
    return 0


def _report(api_url: str, job: dict[str, Any], places: dict[str, str]) -> Iterator[str]:
    yield "\nTwinlane is up. Its first job:"
    yield from (f"  {line}" for line in summary(job))
    yield f"  all of it: {api_url}/v1/jobs/{job['id']}\n"
    width = max(map(len, places))
    yield from (f"{name:<{width}}  {place}" for name, place in places.items())
    yield "\n`make down` stops it and removes its data."


def _run(settings: StackSettings, folder: Path) -> int:
    # It loads the settings of every service, which the other commands need not wait for.
    from local_stack.foreground import run  # noqa: PLC0415 - as just said

    return run(folder, settings, sys.stdout)


def _down(settings: StackSettings, folder: Path) -> int:
    stopped = lifecycle.stop(folder, settings.stop_grace_seconds)
    if settings.docker is not False and compose.docker_works():
        stopped = compose.stop(settings) or stopped
    print("stopped; nothing is left" if stopped else "nothing was running")  # noqa: T201 - the command's answer
    return 0


def _logs(settings: StackSettings, folder: Path) -> int:
    log = folder / LOG
    if not is_running(folder) and compose.docker_works() and compose.is_running(settings):
        compose.follow_logs(settings)
    elif log.exists():
        os.execvp("tail", ["tail", "-n", "100", "-f", str(log)])  # noqa: S606, S607 - tail is everywhere
    else:
        raise StackError("nothing is running: start it with `make up`")
    return 0


def _wants_docker(settings: StackSettings, folder: Path) -> bool:
    """Choose as the person did; otherwise what is running already, otherwise Docker if it works."""
    if settings.docker is False or (settings.docker is None and is_running(folder)):
        return False
    works = compose.docker_works()
    if settings.docker and not works:
        raise StackError("DOCKER=1, but `docker info` or `docker compose version` fails")
    return works


if __name__ == "__main__":
    sys.exit(main())
