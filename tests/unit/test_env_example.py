"""`.env.example` against the settings that somebody reads, in both directions."""

import tempfile

import pytest

from local_stack.service_programs import SERVICE_SETTINGS, variables_of
from local_stack.settings import StackSettings
from unit.compose_file import variables
from unit.env_example import read_entries, read_example
from unit.service_settings import changed, required


def test_every_setting_is_there_once_and_nothing_that_nobody_reads() -> None:
    of_services = frozenset[str]().union(*map(variables_of, SERVICE_SETTINGS))
    read = of_services | StackSettings.names() | dict(variables()).keys()
    assert sorted(entry.name for entry in read_entries()) == sorted(read)


def test_exactly_what_a_service_can_not_start_without_is_marked_as_required() -> None:
    marked = {entry.name for entry in read_entries() if "Required" in entry.comment}
    assert marked == set[str]().union(*map(required, SERVICE_SETTINGS.values()))
    assert not any(read_example()[name].value for name in marked)


@pytest.mark.parametrize("service", SERVICE_SETTINGS)
def test_every_line_shows_the_default_of_the_service_or_of_the_compose_file(service: str) -> None:
    settings = SERVICE_SETTINGS[service]
    shown = {
        name: read_example()[name].value.replace("/tmp", tempfile.gettempdir())  # noqa: S108 - only compared
        for name in variables_of(service) - required(settings)
    }
    assert changed(settings, shown) <= dict(variables()).keys()


def test_every_line_shows_the_default_that_the_compose_file_gives() -> None:
    shown = [(name, read_example()[name].value) for name, _ in variables()]
    assert variables() == shown
