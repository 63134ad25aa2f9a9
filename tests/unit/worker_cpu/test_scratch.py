import os
import time
from pathlib import Path

from worker_cpu.scratch import remove_abandoned, scratch_folder


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
