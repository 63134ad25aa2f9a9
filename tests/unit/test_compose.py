"""What docker-compose.yml promises of the containers."""

import re
from pathlib import Path

import pytest

from local_stack.service_programs import SERVICE_SETTINGS, WITHOUT_STORAGE, variables_of
from local_stack.settings import StackSettings
from unit.compose_file import ROOT, SERVICES, TEXT, environment, image_environment, variables
from unit.service_settings import changed

OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
ADDRESSES = {"BROKER_URL", "RESULT_URL", "RABBITMQ_MANAGEMENT_URL", "HTTPBIN_URL"}
"""Where the services find each other, which nobody chooses."""
OWN_DEFAULTS = {
    "API_HOST",  # every address, as the port is published from outside
    "API_PUBLISHED_HOST",
    "BEAT_STATE_FILE",  # on a volume, as the next two
    "SCRATCH_FOLDER",
    "STORAGE_URL",
    "CPU_CONCURRENCY",  # cores do not know of the memory limit
    "FETCH_ALLOWED_HOSTS",  # the stack's own httpbin
    "FETCH_PRIVATE_HOSTS",
    "HTTPBIN_URL",
    "HEARTBEAT_FILE",  # of the health check
    "REPORT_ALLOWED_RECIPIENTS",  # those of the API are the worker's too, who by itself has none
    "SMTP_HOST",  # the stack's own mail server
    "SMTP_PORT",
}
"""Settings to which the containers give another value than a service does that runs by itself."""


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
def test_service_connects_as_itself(name: str) -> None:
    url = SERVICES[name]["environment"]["BROKER_URL"]
    variable = f"RABBITMQ_{name.upper().replace('-', '_')}_PASS"
    assert url == f"amqp://{name}:${{{variable}:-twinlane}}@rabbitmq:5672//"


@pytest.mark.parametrize("name", SERVICE_SETTINGS)
def test_service_gets_exactly_its_own_settings(name: str) -> None:
    not_needed = {"STORAGE_URL"} if name in WITHOUT_STORAGE else set()
    by_the_image = image_environment(name).keys() & variables_of(name)
    given = SERVICES[name]["environment"].keys()
    assert given == variables_of(name) - by_the_image - not_needed


@pytest.mark.parametrize("name", SERVICE_SETTINGS)
def test_setting_is_chosen_by_the_variable_of_its_name(name: str) -> None:
    for setting, value in SERVICES[name]["environment"].items():
        if setting not in ADDRESSES and value is not None:
            assert [variable for variable, _ in variables(value)] == [setting]


def test_defaults_are_those_of_the_services_except_where_the_stack_has_its_own() -> None:
    differ = {
        name
        for service, settings in SERVICE_SETTINGS.items()
        for name in changed(settings, environment(service))
    }
    assert differ == OWN_DEFAULTS


def test_api_and_worker_allow_the_same() -> None:
    api, worker = SERVICES["api"]["environment"], SERVICES["worker-io"]["environment"]
    for name in ("FETCH_ALLOWED_HOSTS", "REPORT_ALLOWED_RECIPIENTS"):
        assert api[name] == worker[name]


def test_every_variable_has_a_default() -> None:
    assert TEXT.count("${") == len(variables())
