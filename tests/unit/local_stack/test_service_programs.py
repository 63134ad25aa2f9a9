"""What the stack without Docker is made of, and what each part of it may know."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic_settings import BaseSettings

from api.settings import ApiSettings
from beat.settings import BeatSettings
from local_stack.service_programs import SERVICE_SETTINGS, LocalStack
from local_stack.settings import StackSettings
from worker_cpu.settings import WorkerCpuSettings
from worker_io.settings import WorkerIoSettings

_SETTINGS: dict[str, type[BaseSettings]] = {
    "api": ApiSettings,
    "beat": BeatSettings,
    "worker-cpu": WorkerCpuSettings,
    "worker-io": WorkerIoSettings,
}


@pytest.mark.parametrize("service", _SETTINGS)
def test_every_setting_of_a_service_can_be_chosen_without_docker_too(service: str) -> None:
    fields = {name.upper() for name in _SETTINGS[service].model_fields}
    assert fields <= set(SERVICE_SETTINGS[service])


def test_a_service_gets_its_own_variables_and_no_others(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", "not for services")
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "admin:secret")
    settings = StackSettings.read(root)
    stages = LocalStack.at(root / "stack", settings).stages()
    programs = {program.name: program for stage in stages for program in stage}
    assert not [p.name for p in programs.values() if "MY_SECRET" in p.env]
    assert [p.name for p in programs.values() if "FLOWER_BASIC_AUTH" in p.env] == ["flower"]
    assert [p.name for p in programs.values() if "SMTP_PORT" in p.env] == ["worker-io"]
    assert "RABBITMQ_MANAGEMENT_URL" not in programs["worker-cpu"].env
    secrets = {settings.flower_basic_auth, programs["api"].env["BROKER_URL"]}
    assert not [p.name for p in programs.values() if secrets & set(p.argv)]


def test_the_numbers_of_workers_are_a_choice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPU_WORKERS", "2")
    stages = LocalStack.at(root / "stack", StackSettings.read(root)).stages()
    workers = {p.name for stage in stages for p in stage if p.name.startswith("worker")}
    assert workers == {"worker-io", "worker-cpu-1", "worker-cpu-2"}


def test_the_environment_wins_over_the_env_file_and_private_servers_over_both(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / ".env").write_text("API_PORT=8001\nLOG_LEVEL=DEBUG\nBROKER_URL=amqp://rabbitmq//\n")
    monkeypatch.setenv("API_PORT", "8002")
    settings = StackSettings.read(root)
    stack = LocalStack.at(root / "stack", settings)
    api = next(p for stage in stack.stages() for p in stage if p.name == "api")
    assert settings.api_port == 8002
    assert api.env["API_PORT"] == "8002"
    assert api.env["LOG_LEVEL"] == "DEBUG"
    assert api.env["BROKER_URL"] == stack.rabbitmq.broker_url_of("api")


def test_every_service_has_a_user_of_its_own_at_the_broker(root: Path) -> None:
    stages = LocalStack.at(root / "stack", StackSettings.read(root)).stages()
    programs = {program.name: program for stage in stages for program in stage}
    services = ("api", "worker-io", "worker-cpu", "beat", "flower")
    accounts = {name: urlsplit(programs[name].env["BROKER_URL"]) for name in services}
    assert {name: account.username for name, account in accounts.items()} == {
        name: name for name in services
    }
    assert len({account.password for account in accounts.values()}) == len(services)


def test_hosts_that_a_person_allows_join_the_stacks_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETCH_ALLOWED_HOSTS", "example.com")
    monkeypatch.setenv("FETCH_PRIVATE_HOSTS", "intranet.example.com")
    stages = LocalStack.at(root / "stack", StackSettings.read(root)).stages()
    worker = next(p for stage in stages for p in stage if p.name == "worker-io")
    assert worker.env["FETCH_ALLOWED_HOSTS"] == "127.0.0.1,example.com"
    assert worker.env["FETCH_PRIVATE_HOSTS"] == "127.0.0.1,intranet.example.com"


def test_workers_of_one_host_have_different_names(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_NAME", "blue")
    monkeypatch.setenv("CPU_WORKERS", "2")
    stages = LocalStack.at(root / "stack", StackSettings.read(root)).stages()
    names = [p.env["WORKER_NAME"] for stage in stages for p in stage if "WORKER_NAME" in p.env]
    assert sorted(names) == ["blue-worker-cpu-1", "blue-worker-cpu-2", "blue-worker-io"]


def test_a_mail_server_of_ones_own_replaces_the_private_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_HOST", "smtp.example.com")
    stages = LocalStack.at(root / "stack", StackSettings.read(root)).stages()
    worker = next(p for stage in stages for p in stage if p.name == "worker-io")
    assert worker.env["SMTP_HOST"] == "smtp.example.com"
    assert "SMTP_PORT" not in worker.env
