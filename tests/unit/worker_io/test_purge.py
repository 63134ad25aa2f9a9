import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore, ObjectStore

from worker_io.purge import PurgeTotals, purge

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
WEEK_AGO = NOW - timedelta(days=7)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path, automatic_cleanup=True)


def put(root: Path, key: str, age: timedelta) -> None:
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345")
    modified = (NOW - age).timestamp()
    os.utime(path, (modified, modified))


def keys(storage: ObjectStore) -> list[str]:
    return sorted(file["path"] for chunk in obstore.list(storage) for file in chunk)


def final(storage: ObjectStore, prefix: str) -> PurgeTotals:
    return [PurgeTotals(), *purge(storage, prefix, WEEK_AGO)][-1]


def test_only_files_past_their_lifetime_go(storage: LocalStore, tmp_path: Path) -> None:
    put(tmp_path, "artifacts/old/report.html", timedelta(days=8))
    put(tmp_path, "artifacts/old/chart.png", timedelta(days=30))
    put(tmp_path, "artifacts/new/report.html", timedelta(days=6))
    assert final(storage, "artifacts") == PurgeTotals(seen=3, deleted=2, freed_bytes=10)
    assert keys(storage) == ["artifacts/new/report.html"]


def test_other_prefixes_are_left_alone(storage: LocalStore, tmp_path: Path) -> None:
    put(tmp_path, "datasets/sales/part.parquet", timedelta(days=900))
    put(tmp_path, "artifacts-of-others/x", timedelta(days=900))
    assert final(storage, "artifacts") == PurgeTotals()
    assert len(keys(storage)) == 2


def test_purging_twice_changes_nothing(storage: LocalStore, tmp_path: Path) -> None:
    put(tmp_path, "uploads/content/a", timedelta(days=8))
    assert final(storage, "uploads").deleted == 1
    assert final(storage, "uploads").deleted == 0


def test_totals_grow_with_every_chunk_of_a_thousand(storage: LocalStore, tmp_path: Path) -> None:
    for number in range(2_300):
        put(tmp_path, f"uploads/content/{number}", timedelta(days=8))
    totals = list(purge(storage, "uploads", WEEK_AGO))
    assert [each.seen for each in totals] == [1_000, 2_000, 2_300]
    assert totals[-1] == PurgeTotals(seen=2_300, deleted=2_300, freed_bytes=11_500)
    assert keys(storage) == []


def test_purge_beside_another_one_deletes_the_rest(storage: LocalStore, tmp_path: Path) -> None:
    for number in range(1_500):
        put(tmp_path, f"uploads/content/{number}", timedelta(days=8))
    slow = purge(storage, "uploads", WEEK_AGO)
    next(slow)
    final(storage, "uploads")
    list(slow)
    assert keys(storage) == []


def test_purge_of_nothing_is_no_error(storage: LocalStore) -> None:
    assert final(storage, "uploads") == PurgeTotals()
