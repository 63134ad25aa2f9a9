"""A service that can't start with its settings says so in one line, and repeats no secret."""

import subprocess
import sys
from pathlib import Path

import pytest

from local_stack.programs import basic_env

MODULES = {
    "api": "api.main",
    "beat": "beat.main",
    "worker-cpu": "worker_cpu.main",
    "worker-io": "worker_io.main",
}
NEEDED = {
    "BROKER_URL": "amqp://user:hidden@127.0.0.1:1//",
    "RESULT_URL": "redis://:hidden@127.0.0.1:1/0",
    "RABBITMQ_MANAGEMENT_URL": "http://user:hidden@127.0.0.1:1",
}
DIGEST = "5f" * 32


def complaint(service: str, folder: Path, **environment: str) -> str:
    """Start a service, which must refuse, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", MODULES[service]],
        env=basic_env(**environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("service", MODULES)
def test_missing_setting_is_named_in_one_line(service: str, tmp_path: Path) -> None:
    without = {name: value for name, value in NEEDED.items() if name != "BROKER_URL"}
    said = complaint(service, tmp_path, **without)
    assert said == f"{service}: BROKER_URL: Field required\n"


@pytest.mark.parametrize("service", MODULES)
def test_everything_that_is_wrong_is_said_at_once(service: str, tmp_path: Path) -> None:
    more = {"JOB_TTL_SECONDS": "soon", "LOG_LEVEL": "LOUD", "STORAGE_URL": "ftp://here"}
    said = complaint(service, tmp_path, **NEEDED, **more)
    lines = [line.removeprefix(f"{service}: ").partition(": ") for line in said.splitlines()]
    assert {name for name, _, _ in lines} == more.keys()
    assert all(more[name] in rule for name, _, rule in lines)
    assert "hidden" not in said


@pytest.mark.parametrize(
    ("service", "name", "value", "rule"),
    [
        ("api", "FETCH_ALLOWED_HOSTS", "ok.example,http://x/", "'http://x/' is not a host"),
        ("worker-io", "FETCH_ALLOWED_HOSTS", "ok.example,http://x/", "'http://x/' is not a host"),
        ("api", "REPORT_ALLOWED_RECIPIENTS", "@ok.example,x", "'x' is not an address"),
        ("worker-io", "REPORT_ALLOWED_RECIPIENTS", "@ok.example,x", "'x' is not an address"),
        ("beat", "MONTHLY_REPORT_RECIPIENTS", "a@ok.example,x", "'x' is not an address"),
        ("api", "API_KEYS", f"ci:reed:{DIGEST}", "entry 1 (ci) needs scopes"),
        ("api", "RATE_LIMIT_PER_KEY", "many", "'many' is not like 1000/second"),
        ("api", "API_WORKERS", "0", "greater than or equal to 1 (it is '0')"),
        ("worker-cpu", "FAULT_RATE", "2", "less than or equal to 1 (it is '2')"),
    ],
)
def test_setting_that_can_not_be_read_is_explained_in_one_line(
    service: str, name: str, value: str, rule: str, tmp_path: Path
) -> None:
    said = complaint(service, tmp_path, **NEEDED, **{name: value})
    assert said.startswith(f"{service}: {name}: ")
    assert rule in said
    assert said.count("\n") == 1
    assert DIGEST not in said


def test_several_processes_complain_once(tmp_path: Path) -> None:
    said = complaint("api", tmp_path, **NEEDED, API_WORKERS="2", RATE_LIMIT_PER_KEY="many")
    assert said.startswith("api: RATE_LIMIT_PER_KEY: ")
    assert said.count("\n") == 1


def test_api_without_keys_does_not_start_where_others_can_reach_it(tmp_path: Path) -> None:
    said = complaint("api", tmp_path, **NEEDED, API_HOST="0.0.0.0")  # noqa: S104 - is refused
    assert said.startswith("api: API_KEYS: none are set, and the port can be reached at 0.0.0.0")
    assert said.count("\n") == 1
