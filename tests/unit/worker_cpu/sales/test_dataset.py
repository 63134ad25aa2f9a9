import multiprocessing
import os
import time
from collections.abc import Iterable
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore

from unit.worker_cpu.processes import IMPORTS_EACH, import_repeatedly
from worker_cpu.sales.dataset import (
    GRACE,
    KEPT_SNAPSHOTS,
    PARTS,
    SNAPSHOTS,
    MonthFile,
    SalesDataset,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "storage").mkdir()
    return tmp_path / "storage"


@pytest.fixture
def dataset(folder: Path) -> SalesDataset:
    return SalesDataset(LocalStore(folder))


def month_file(tmp_path: Path, content: str) -> MonthFile:
    path = tmp_path / "part"
    path.write_text(content)
    return MonthFile(path, rows=1)


def names(dataset_folder: Path) -> list[str]:
    return sorted(path.name for path in dataset_folder.iterdir())


def make_old(paths: Iterable[Path]) -> None:
    long_ago = time.time() - GRACE.total_seconds() - 60
    for path in paths:
        os.utime(path, (long_ago, long_ago))


def test_imports_of_several_processes_at_once_are_all_kept(
    dataset: SalesDataset, folder: Path, tmp_path: Path
) -> None:
    sources = ["a", "b", "c", "d"]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([import_repeatedly.__module__])  # for all four at once
    workers = [
        context.Process(target=import_repeatedly, args=(folder.as_uri(), str(tmp_path), source))
        for source in sources
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * len(sources)
    snapshot = dataset.newest()
    assert snapshot.number == IMPORTS_EACH * len(sources)
    last = {source: parts["2025-01"].rows for source, parts in snapshot.sources.items()}
    assert last == dict.fromkeys(sources, IMPORTS_EACH - 1)


def test_identical_content_is_one_part(dataset: SalesDataset, folder: Path, tmp_path: Path) -> None:
    for source in ("a", "b"):
        dataset.replace(source, {"2025-01": month_file(tmp_path, "same")})
    assert len(names(folder / PARTS)) == 1
    assert len(dataset.newest().parts_of(["2025-01"])) == 2


def test_reader_keeps_its_snapshot_while_imports_go_on(
    dataset: SalesDataset, tmp_path: Path
) -> None:
    dataset.replace("a", {"2025-01": month_file(tmp_path, "old")})
    seen = dataset.newest()
    for number in range(3 * KEPT_SNAPSHOTS):
        dataset.replace("a", {"2025-01": month_file(tmp_path, f"new {number}")})
    [part] = seen.parts_of(["2025-01"])
    assert dataset.fetch(part, tmp_path).read_text() == "old"


def test_old_snapshots_and_what_only_they_mention_are_deleted(
    dataset: SalesDataset, folder: Path, tmp_path: Path
) -> None:
    for number in range(2 * KEPT_SNAPSHOTS):
        dataset.replace("a", {"2025-01": month_file(tmp_path, str(number))})
        dataset.replace("b", {"2025-01": month_file(tmp_path, "kept")})
    make_old([*(folder / SNAPSHOTS).iterdir(), *(folder / PARTS).iterdir()])
    dataset.replace("a", {"2025-01": month_file(tmp_path, "newest")})
    assert len(names(folder / SNAPSHOTS)) == KEPT_SNAPSHOTS
    snapshot = dataset.newest()
    assert {Path(key).name for key in snapshot.keys} <= set(names(folder / PARTS))
    assert len(names(folder / PARTS)) == KEPT_SNAPSHOTS + 1
    [part] = snapshot.sources["b"].values()
    assert bytes(obstore.get(LocalStore(folder), part.key).bytes()) == b"kept"


def test_part_of_an_import_that_is_not_committed_yet_is_not_pruned(
    dataset: SalesDataset, folder: Path, tmp_path: Path
) -> None:
    for number in range(3 * KEPT_SNAPSHOTS):
        dataset.replace("a", {"2025-01": month_file(tmp_path, str(number))})
    make_old((folder / SNAPSHOTS).iterdir())
    fresh = folder / PARTS / "fresh.parquet"
    fresh.write_text("uploaded, not committed")
    dataset.replace("a", {"2025-01": month_file(tmp_path, "newest")})
    assert len(names(folder / SNAPSHOTS)) == KEPT_SNAPSHOTS
    assert fresh.exists()
