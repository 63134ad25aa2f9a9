"""What a person may choose about the stack, and how a choice that can't be used is answered."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from local_stack.settings import SettingError, StackSettings
from unit.env_example import read_example

_MAKEFILE = Path(__file__).parents[3] / "Makefile"


def test_example_gives_the_stacks_own_defaults(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = StackSettings.read(root)
    for name in StackSettings.names():
        monkeypatch.setenv(name, read_example()[name].value)
    chosen = StackSettings.read(root)
    assert replace(chosen, environment={}) == replace(defaults, environment={})


def test_help_names_settings_that_there_are() -> None:
    help_lines = _MAKEFILE.read_text().split("Settings, on the command line or in .env:")[1]
    named = re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", help_lines.partition("For example")[0])
    assert named
    assert set(named) <= StackSettings.names()


def test_the_environment_wins_over_the_env_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / ".env").write_text("API_PORT=8001\nFLOWER_PORT=5556\n")
    monkeypatch.setenv("API_PORT", "8002")
    settings = StackSettings.read(root)
    assert (settings.api_port, settings.flower_port) == (8002, 5556)


def test_empty_value_is_no_choice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PORT", "")
    monkeypatch.setenv("DOCKER", "")
    settings = StackSettings.read(root)
    assert (settings.api_port, settings.docker) == (8000, None)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("API_PORT", "eight", "API_PORT is 'eight': it must be a number"),
        ("DOCKER", "yes", "DOCKER is 'yes': it must be 0 or 1"),
    ],
)
def test_a_setting_that_can_not_be_used_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match=message):
        StackSettings.read(root)


def test_port_of_rabbitmqs_pages_must_be_free_only_if_it_was_chosen(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "RABBITMQ_MANAGEMENT_PORT" not in StackSettings.read(root).ports_without_docker()
    monkeypatch.setenv("RABBITMQ_MANAGEMENT_PORT", "15673")
    ports = StackSettings.read(root).ports_without_docker()
    assert ports["RABBITMQ_MANAGEMENT_PORT"] == 15673


def test_first_job_needs_a_key_where_the_api_has_keys(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert StackSettings.read(root).first_job_key() is None
    monkeypatch.setenv("API_KEYS", "ci:read+submit:…")
    with pytest.raises(SettingError, match=r"TWINLANE_API_KEY is not: .* read and submit"):
        StackSettings.read(root).first_job_key()
    monkeypatch.setenv("TWINLANE_API_KEY", "secret")
    assert StackSettings.read(root).first_job_key() == "secret"


def test_passwords_are_not_shown(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLOWER_BASIC_AUTH", "RABBITMQ_DEFAULT_PASS", "TWINLANE_API_KEY", "SMTP_PASSWORD"):
        monkeypatch.setenv(name, "hidden")
    assert "hidden" not in repr(StackSettings.read(root))
