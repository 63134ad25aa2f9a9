"""The rules of the house that a machine can check."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import worker_cpu.app
import worker_cpu.settings
import worker_io.app
import worker_io.settings
from api.settings import ApiSettings
from beat.settings import BeatSettings
from contracts.settings import SharedSettings
from contracts.topology import LANE_QUEUES
from twinlane_sdk.lanes import Lane
from twinlane_tasks.catalogue import bundled_tasks

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services"
SETTINGS: list[type[SharedSettings]] = [
    ApiSettings,
    BeatSettings,
    worker_cpu.settings.WorkerCpuSettings,
    worker_io.settings.WorkerIoSettings,
]
WORKERS: dict[Lane, tuple[Any, type[SharedSettings]]] = {
    Lane.IO: (worker_io.app.create_app, worker_io.settings.WorkerIoSettings),
    Lane.CPU: (worker_cpu.app.create_app, worker_cpu.settings.WorkerCpuSettings),
}
MODULES = sorted(SERVICES.glob("*/src/*/**/*.py"))
API = SERVICES / "api/src/api"
API_MODULES = [path for path in MODULES if API in path.parents and path.parent.name != "errors"]
TRANSLATORS = {"app.py", "main.py", "tasks.py"}
DOMAIN_MODULES = [
    path
    for path in MODULES
    if {"worker_io", "worker_cpu"} & set(path.parts) and path.name not in TRANSLATORS
]
OUTSIDE_THE_DOMAIN = {"celery", "kombu", "redis", "fastapi", "starlette", "worker_runtime"}


def of_modules(paths: list[Path]) -> pytest.MarkDecorator:
    ids = [str(path.relative_to(SERVICES)) for path in paths]
    return pytest.mark.parametrize("path", paths, ids=ids)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(tree(path))


def imports(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports."""
    found = set()
    for node in nodes(path):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str(module)):
                found.add(module)
    return found


def names(path: Path) -> set[str]:
    """Return every name that a file uses, attributes and imports included."""
    found = set()
    for node in nodes(path):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                found.add(name)
    return found


def error_statuses(path: Path) -> list[int]:
    """Return the numbers of 400 and up that a file uses as a status code."""
    found: list[object] = []
    for node in nodes(path):
        match node:
            case ast.keyword(arg="status" | "status_code", value=ast.Constant(value=int(code))):
                found.append(code)
            case ast.Assign(
                targets=[ast.Name(id="status") | ast.Attribute(attr="status_code")],
                value=ast.Constant(value=int(code)),
            ):
                found.append(code)
            case ast.Dict(keys=keys):
                found += [key.value for key in keys if isinstance(key, ast.Constant)]
    return [code for code in found if isinstance(code, int) and code >= 400]


def test_every_import_goes_the_way_that_the_house_allows() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@of_modules(API_MODULES)
def test_only_errors_knows_the_status_codes_of_failures(path: Path) -> None:
    assert not names(path) & {"HTTPException", "HTTPStatus"}
    assert error_statuses(path) == []


@of_modules([path for path in MODULES if path.name != "main.py"])
def test_only_main_reads_the_environment(path: Path) -> None:
    assert not names(path) & {"environ", "environb", "getenv", "getenvb"}
    made = {
        node.func.id
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not made & {settings.__name__ for settings in SETTINGS}


@of_modules(DOMAIN_MODULES)
def test_domain_module_knows_neither_celery_nor_the_web(path: Path) -> None:
    packages = {name.partition(".")[0] for name in imports(path)}
    assert not packages & OUTSIDE_THE_DOMAIN


def test_api_does_not_import_the_work() -> None:
    imported = set().union(*(imports(path) for path in API_MODULES))
    assert not {name.partition(".")[0] for name in imported} & {"worker_io", "worker_cpu", "duckdb"}


def test_every_queue_has_exactly_one_kind_of_worker() -> None:
    served = [
        re.findall(r"Lane\.(\w+)", path.read_text()) for path in SERVICES.glob("*/src/*/main.py")
    ]
    assert sorted(lane for found in served for lane in found) == ["CPU", "IO"]
    assert {queue.name for queue in LANE_QUEUES} == {lane.queue_name for lane in Lane}


def test_every_task_is_on_a_lane_that_has_a_queue() -> None:
    queues = {queue.name for queue in LANE_QUEUES}
    assert {spec.lane.queue_name for spec in bundled_tasks().values()} == queues


@pytest.mark.parametrize("lane", Lane)
def test_worker_implements_exactly_the_tasks_of_its_lane(lane: Lane, tmp_path: Path) -> None:
    create_app, settings = WORKERS[lane]
    values = {
        "broker_url": "amqp://nobody:nothing@127.0.0.1:1//",
        "result_url": "redis://127.0.0.1:1/0",
        "storage_url": tmp_path.as_uri(),
    }
    app: Celery = create_app(settings.model_validate(values))
    assert {
        name for name in app.tasks if not name.startswith("celery.")
    } == bundled_tasks().names_on(lane)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.__name__)
def test_settings_say_their_unit(settings: type[SharedSettings]) -> None:
    measures, units = {"timeout", "delay", "ttl", "limit", "interval"}, {"seconds", "bytes"}
    assert [
        name
        for name in settings.model_fields
        if measures & set(name.split("_"))
        and not units & set(name.split("_"))
        and not name.startswith("rate_limit_")  # its value says it: 1000/second
    ] == []


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.__name__)
def test_passwords_are_not_shown(settings: type[SharedSettings]) -> None:
    secret = {
        "broker_url": "amqp://user:hidden@host//",
        "result_url": "redis://:hidden@host/0",
        "rabbitmq_management_url": "http://user:hidden@host:15672",
    }
    assert "hidden" not in repr(settings.model_validate(secret))


@pytest.mark.parametrize("service", ["api", "beat", "worker_cpu", "worker_io"])
def test_importing_a_service_starts_nothing(service: str) -> None:
    program = f"""
import importlib, os, pkgutil, stat, threading
import {service}
for module in pkgutil.walk_packages({service}.__path__, "{service}."):
    importlib.import_module(module.name)
assert threading.active_count() == 1, threading.enumerate()
for fd in range(3, 100):
    try:
        assert not stat.S_ISSOCK(os.fstat(fd).st_mode), f"{{fd}} is a socket"
    except OSError:
        pass
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
