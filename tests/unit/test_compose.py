"""What docker-compose.yml promises of the containers."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_stack.service_programs import SERVICE_SETTINGS
from local_stack.settings import StackSettings

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
SET_BY_THE_STACK = {
    "API_HOST",
    "API_PORT",
    "BEAT_STATE_FILE",
    "HEARTBEAT_FILE",
    "SCRATCH_FOLDER",
}
"""Settings that a Dockerfile gives, because they belong to the image."""


@pytest.mark.parametrize("name", SERVICES)
def test_container_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert "mem_limit" in service


@pytest.mark.parametrize("name", SERVICES)
def test_container_does_not_run_as_root(name: str) -> None:
    service = SERVICES[name]
    if name in OURS:
        dockerfile = (ROOT / service["build"]["dockerfile"]).read_text()
        users = re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE)
        assert users[-1:] == ["10001:10001"]
    else:
        assert service["user"] not in {"root", "0"}


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_on_this_machine_only_unless_chosen(name: str) -> None:
    local = ("127.0.0.1:", "${API_PUBLISHED_HOST:-127.0.0.1}:")
    assert all(port.startswith(local) for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", OURS)
def test_service_has_as_long_to_stop_as_without_docker(name: str, tmp_path: Path) -> None:
    grace = StackSettings.read(tmp_path).stop_grace_seconds
    assert SERVICES[name]["stop_grace_period"] == f"${{STOP_GRACE_SECONDS:-{grace}}}s"


@pytest.mark.parametrize("name", SERVICE_SETTINGS)
def test_every_setting_of_a_service_can_be_chosen_with_docker_too(name: str) -> None:
    settings = set(SERVICE_SETTINGS[name]) - SET_BY_THE_STACK
    if "storage:/storage" not in SERVICES[name].get("volumes", []):
        settings -= {"STORAGE_URL"}
    assert settings <= set(SERVICES[name]["environment"])


@pytest.mark.parametrize("name", SERVICE_SETTINGS)
def test_service_connects_as_itself(name: str) -> None:
    url = SERVICES[name]["environment"]["BROKER_URL"]
    variable = f"RABBITMQ_{name.upper().replace('-', '_')}_PASS"
    assert url == f"amqp://{name}:${{{variable}:-twinlane}}@rabbitmq:5672//"


def test_every_variable_of_the_file_is_in_the_example() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    example = (ROOT / ".env.example").read_text()
    used = set(re.findall(r"\$\{([A-Z_]+):", compose))
    assert used <= set(re.findall(r"^#([A-Z_]+)=", example, re.MULTILINE))
