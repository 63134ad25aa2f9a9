import os
import time
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore

from worker_cpu.scratch import local_file, remove_abandoned, scratch_folder


def test_only_old_folders_of_workers_are_removed(tmp_path: Path) -> None:
    old, foreign = tmp_path / "twinlane-old", tmp_path / "other"
    for folder in (old, foreign):
        folder.mkdir()
        (folder / "file").touch()
        os.utime(folder, (0, time.time() - 48 * 3600))
    with scratch_folder(tmp_path) as running:
        remove_abandoned(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([foreign, running])


def test_missing_parent_has_nothing_to_remove(tmp_path: Path) -> None:
    remove_abandoned(tmp_path / "missing")


def test_object_of_a_local_storage_is_read_in_place(tmp_path: Path) -> None:
    (tmp_path / "object").write_bytes(b"content")
    path = local_file(LocalStore(tmp_path), "object", tmp_path / "copy")
    assert path == tmp_path / "object"


def test_missing_object_is_no_file(tmp_path: Path) -> None:
    for storage in (LocalStore(tmp_path), MemoryStore()):
        with pytest.raises(FileNotFoundError):
            local_file(storage, "missing", tmp_path / "copy")


def test_object_of_another_storage_is_downloaded(tmp_path: Path) -> None:
    storage = MemoryStore()
    content = bytes(9 * 1024 * 1024)
    obstore.put(storage, "object", content)
    watched: list[tuple[int, int]] = []
    path = local_file(storage, "object", tmp_path / "copy", lambda *seen: watched.append(seen))
    assert (path, path.read_bytes()) == (tmp_path / "copy", content)
    assert watched[-1] == (len(content), len(content))
