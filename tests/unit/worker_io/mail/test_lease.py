import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import obstore
import pytest
from obstore.store import LocalStore, ObjectStore

from twinlane_sdk.errors import RetryableError
from worker_io.mail.lease import held_lease

KEY = "artifacts/job-42/claims/mail"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path, automatic_cleanup=True)


def keys(storage: ObjectStore) -> list[str]:
    return sorted(file["path"] for chunk in obstore.list(storage) for file in chunk)


def left_behind(storage: ObjectStore, root: Path, number: int, age: timedelta) -> None:
    """The lease of a holder who died."""
    obstore.put(storage, f"{KEY}/{number}", b"{}")
    made_at = time.time() - age.total_seconds()
    os.utime(root / KEY / str(number), (made_at, made_at))


def test_lease_is_held_alone_and_then_gone(storage: LocalStore) -> None:
    with held_lease(storage, KEY, MINUTE):
        with (
            pytest.raises(RetryableError, match=r"another delivery .* looked at again later"),
            held_lease(storage, KEY, MINUTE),
        ):
            pass
        assert keys(storage) == [f"{KEY}/1"]
    assert keys(storage) == []
    with held_lease(storage, KEY, MINUTE):
        pass


def test_lease_says_who_holds_it_and_since_when(storage: LocalStore) -> None:
    with held_lease(storage, KEY, MINUTE):
        lease = json.loads(bytes(obstore.get(storage, f"{KEY}/1").bytes()))
    assert lease["by"].startswith(f"{os.getpid()}@")
    assert lease["at"].endswith("+00:00")


def test_lease_is_gone_after_a_failure_too(storage: LocalStore) -> None:
    with pytest.raises(ZeroDivisionError), held_lease(storage, KEY, MINUTE):
        _ = 1 / 0
    assert keys(storage) == []


def test_lease_of_a_dead_holder_is_respected_until_it_expires(
    storage: LocalStore, tmp_path: Path
) -> None:
    left_behind(storage, tmp_path, 1, timedelta(seconds=55))
    with pytest.raises(RetryableError), held_lease(storage, KEY, MINUTE):
        pass
    left_behind(storage, tmp_path, 1, timedelta(seconds=61))
    with held_lease(storage, KEY, MINUTE):
        assert keys(storage) == [f"{KEY}/1", f"{KEY}/2"]


def test_expired_lease_is_taken_over_by_one_alone(storage: LocalStore, tmp_path: Path) -> None:
    left_behind(storage, tmp_path, 1, timedelta(hours=1))
    left_behind(storage, tmp_path, 2, timedelta(minutes=30))
    together, all_tried = Barrier(8), Barrier(8)

    def hold(_: int) -> bool:
        together.wait(10)
        try:
            with held_lease(storage, KEY, MINUTE):
                all_tried.wait(10)
        except RetryableError:
            all_tried.wait(10)
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(hold, range(8))) == [False] * 7 + [True]


def test_storage_that_fails_at_the_end_does_not_undo_what_was_done(
    storage: LocalStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with held_lease(storage, KEY, MINUTE):
        lease = tmp_path / KEY / "1"
        lease.unlink()
        (lease / "in-the-way").mkdir(parents=True)
    assert "was not removed" in caplog.text
