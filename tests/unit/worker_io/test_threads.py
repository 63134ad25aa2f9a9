import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from worker_io.threads import start_all


class Pool(ThreadPoolExecutor):
    """A pool on a system that allows so many threads, and no more."""

    def __init__(self, allowed: int) -> None:
        super().__init__(thread_name_prefix="ahead")
        self._left = allowed

    def submit(self, *args, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN003, ANN201
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("can't start new thread")
        return super().submit(*args, **kwargs)


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_all_threads_run_and_are_free() -> None:
    with ThreadPoolExecutor(20, "ahead") as pool:
        start_all(pool, 20)
        assert len(running()) == 20
        assert list(pool.map(partial(pow, 2), range(3))) == [1, 2, 4]


def test_threads_that_were_started_in_vain_end() -> None:
    with Pool(5) as pool, pytest.raises(RuntimeError, match="can't start new thread"):
        start_all(pool, 20)
    assert running() == []
