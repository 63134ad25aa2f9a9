"""Stopping a stack, whatever is left of it."""

from pathlib import Path

from local_stack.lifecycle import stop
from local_stack.stack_folder import is_running


def test_stopping_where_nothing_runs_is_no_error(tmp_path: Path) -> None:
    assert not is_running(tmp_path / "stack")
    assert not stop(tmp_path / "stack", grace_seconds=1)


def test_what_a_killed_stack_left_in_its_folder_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    folder.mkdir()
    (folder / "lock").write_text("1")  # an old process id, of somebody else by now
    (folder / "state.json").write_text(
        '{"pid": 1, "api_url": "", "places": {}, "mail_folder": "", "management_url": "",'
        ' "children": {"api": 1}}'
    )
    assert not is_running(folder)
    assert stop(folder, grace_seconds=1)
    assert not folder.exists()
