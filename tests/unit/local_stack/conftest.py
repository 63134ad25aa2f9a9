"""A project's folder in which nothing has been chosen."""

from pathlib import Path

import pytest

from local_stack.service_programs import SERVICE_SETTINGS, variables_of
from local_stack.settings import StackSettings

_ROOT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder without .env, to which the environment adds no setting either."""
    for name in StackSettings.names().union(*map(variables_of, SERVICE_SETTINGS)):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "deploy").symlink_to(_ROOT / "deploy")
    return tmp_path
