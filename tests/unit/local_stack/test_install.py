"""What is said of missing servers on machines where they can't be installed."""

import pytest

from local_stack import install
from local_stack.install import MissingProgramError, ensure_servers


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with neither servers nor a package manager."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(install, "_SYSTEM_FOLDERS", ("/nowhere",))


@pytest.mark.usefixtures("bare_machine")
def test_what_is_missing_is_named_in_one_line_with_what_to_do() -> None:
    with pytest.raises(MissingProgramError) as raised:
        ensure_servers()
    message = str(raised.value)
    assert message.startswith("rabbitmq-server and redis-server not found: install with")
    assert "Docker" in message
    assert "\n" not in message
