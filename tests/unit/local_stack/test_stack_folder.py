"""Who holds the folder of a stack, and what is known of the stack in it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from local_stack.errors import StackError
from local_stack.stack_folder import (
    StackState,
    is_running,
    lock,
    lock_holder,
    read_state,
    write_state,
)

_STATE = StackState(
    pid=1, api_url="", places={}, mail_folder="", management_url="", children={"api": 2}
)


def test_a_folder_has_one_holder_who_is_known_until_he_ends(tmp_path: Path) -> None:
    with lock(tmp_path):
        assert lock_holder(tmp_path) == os.getpid()
        with pytest.raises(StackError, match=r"running .* `make down`"), lock(tmp_path):
            pass
    assert not is_running(tmp_path)


def test_what_was_known_of_an_earlier_stack_is_forgotten(tmp_path: Path) -> None:
    write_state(tmp_path, _STATE)
    with lock(tmp_path):
        assert read_state(tmp_path) is None


def test_state_is_read_as_it_was_written_and_by_its_owner_alone(tmp_path: Path) -> None:
    write_state(tmp_path, _STATE)
    write_state(tmp_path, replace(_STATE, pid=3))
    assert read_state(tmp_path) == replace(_STATE, pid=3)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o077 == 0
