"""What the stack without Docker is made of, and what each part of it may know."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local_stack.programs import Program
from local_stack.service_programs import SERVICE_SETTINGS, LocalStack, variables_of
from local_stack.settings import StackSettings
from unit.service_settings import changed

_SERVICES = Path(__file__).parents[3] / "services"
_WIRED = {
    *("BROKER_URL", "RESULT_URL", "RABBITMQ_MANAGEMENT_URL", "HTTPBIN_URL", "API_HOST"),
    *("HEARTBEAT_FILE", "SCRATCH_FOLDER", "BEAT_STATE_FILE"),
}
"""Settings that the stack decides."""
_OWN_DEFAULTS = {"STORAGE_URL", "REPORT_ALLOWED_RECIPIENTS", "SMTP_HOST", "SMTP_PORT"}
"""Settings for which the stack has something else than a service that runs by itself."""
_FETCH_LISTS = {"FETCH_ALLOWED_HOSTS", "FETCH_PRIVATE_HOSTS"}
"""Settings to which the stack adds its own httpbin."""
_HEAVY = {
    *("aiormq", "amqp", "celery", "duckdb", "jinja2", "kombu", "matplotlib", "numpy", "redis"),
    *("uvicorn", "uvloop"),
}


def programs(root: Path) -> dict[str, Program]:
    """Return the programs of a stack in that folder, by their names."""
    stages = LocalStack.at(root / "stack", StackSettings.read(root)).stages()
    return {program.name: program for stage in stages for program in stage}


def loaded_with(module: str) -> set[str]:
    """Return the top-level modules that a new process has after importing one."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_every_service_is_run_with_the_settings_of_its_own_package() -> None:
    packages = {
        path.parents[2].name: path.parent.name for path in _SERVICES.glob("*/src/*/main.py")
    }
    assert {name: found.__module__ for name, found in SERVICE_SETTINGS.items()} == {
        service: f"{package}.settings" for service, package in packages.items()
    }


def test_settings_of_the_services_bring_none_of_their_work() -> None:
    assert not loaded_with("local_stack.foreground") & _HEAVY


def test_only_the_supervisor_loads_the_settings_of_the_services() -> None:
    assert not loaded_with("local_stack.__main__") & {"api", "beat", "worker_cpu", "worker_io"}


@pytest.mark.parametrize("service", SERVICE_SETTINGS)
def test_every_setting_of_a_service_can_be_chosen_without_docker_too(
    service: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = variables_of(service) - {"API_PORT"}  # a number: see below
    for name in names:
        monkeypatch.setenv(name, "somebodys-own")
    env = programs(root)[service].env
    assert {name for name in names if "somebodys-own" not in env[name]} == _WIRED & names


@pytest.mark.parametrize("service", SERVICE_SETTINGS)
def test_a_service_starts_with_its_defaults_where_nothing_was_chosen(
    service: str, root: Path
) -> None:
    settings = SERVICE_SETTINGS[service]
    differ = changed(settings, programs(root)[service].env)
    assert differ <= _WIRED | _OWN_DEFAULTS | _FETCH_LISTS


def test_api_and_worker_allow_the_same(root: Path) -> None:
    api, worker = programs(root)["api"].env, programs(root)["worker-io"].env
    for name in ("FETCH_ALLOWED_HOSTS", "REPORT_ALLOWED_RECIPIENTS"):
        assert api[name] == worker[name]


def test_a_service_gets_its_own_variables_and_no_others(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", "not for services")
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "admin:secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for beat")
    started = programs(root)
    assert not [p.name for p in started.values() if "MY_SECRET" in p.env]
    assert [p.name for p in started.values() if "FLOWER_BASIC_AUTH" in p.env] == ["flower"]
    assert [p.name for p in started.values() if "SMTP_PORT" in p.env] == ["worker-io"]
    assert "RABBITMQ_MANAGEMENT_URL" not in started["worker-cpu"].env
    assert "AWS_SECRET_ACCESS_KEY" in started["worker-cpu"].env
    assert "AWS_SECRET_ACCESS_KEY" not in started["beat"].env
    secrets = {"admin:secret", started["api"].env["BROKER_URL"]}
    assert not [p.name for p in started.values() if secrets & set(p.argv)]


def test_the_numbers_of_workers_are_a_choice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPU_WORKERS", "2")
    workers = {name for name in programs(root) if name.startswith("worker")}
    assert workers == {"worker-io", "worker-cpu-1", "worker-cpu-2"}


def test_private_servers_win_over_what_was_chosen(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / ".env").write_text("API_PORT=8001\nLOG_LEVEL=DEBUG\nBROKER_URL=amqp://rabbitmq//\n")
    monkeypatch.setenv("API_PORT", "8002")
    stack = LocalStack.at(root / "stack", StackSettings.read(root))
    api = next(p for stage in stack.stages() for p in stage if p.name == "api")
    assert api.env["API_PORT"] == "8002"
    assert api.env["LOG_LEVEL"] == "DEBUG"
    assert api.env["BROKER_URL"] == stack.rabbitmq.broker_url_of("api")


def test_every_service_has_a_user_of_its_own_at_the_broker(root: Path) -> None:
    services = ("api", "worker-io", "worker-cpu", "beat", "flower")
    started = programs(root)
    accounts = {name: urlsplit(started[name].env["BROKER_URL"]) for name in services}
    assert {name: account.username for name, account in accounts.items()} == {
        name: name for name in services
    }
    assert len({account.password for account in accounts.values()}) == len(services)


def test_hosts_that_a_person_allows_join_the_stacks_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETCH_ALLOWED_HOSTS", "example.com")
    monkeypatch.setenv("FETCH_PRIVATE_HOSTS", "intranet.example.com")
    worker = programs(root)["worker-io"]
    assert worker.env["FETCH_ALLOWED_HOSTS"] == "127.0.0.1,example.com"
    assert worker.env["FETCH_PRIVATE_HOSTS"] == "127.0.0.1,intranet.example.com"


def test_workers_of_one_host_have_different_names(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_NAME", "blue")
    monkeypatch.setenv("CPU_WORKERS", "2")
    names = [p.env["WORKER_NAME"] for p in programs(root).values() if "WORKER_NAME" in p.env]
    assert sorted(names) == ["blue-worker-cpu-1", "blue-worker-cpu-2", "blue-worker-io"]


def test_a_mail_server_of_ones_own_replaces_the_private_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_HOST", "smtp.example.com")
    worker = programs(root)["worker-io"]
    assert worker.env["SMTP_HOST"] == "smtp.example.com"
    assert "SMTP_PORT" not in worker.env
