import multiprocessing
import time
from pathlib import Path

import duckdb
import pytest

from unit.worker_cpu.processes import fail_to_copy
from worker_cpu.database import Database, execute_watched

DATABASE = Database(memory_limit_bytes=128 * 1024 * 1024)
ENDLESS = "SELECT count(*) FROM range(100000000000) AS a(i) WHERE hash(i) % 7 = 9"


class DeadlinePassedError(Exception):
    pass


def test_statement_stops_at_the_deadline_of_its_watcher(tmp_path: Path) -> None:
    def watch(share: float) -> None:
        raise DeadlinePassedError(share)

    started = time.monotonic()
    with DATABASE.connect(tmp_path) as connection, pytest.raises(DeadlinePassedError):
        execute_watched(connection, ENDLESS, watch)
    assert time.monotonic() - started < 60


def test_watched_statement_returns_its_count_and_raises_its_errors(tmp_path: Path) -> None:
    with DATABASE.connect(tmp_path) as connection:
        assert execute_watched(connection, "SELECT 42", lambda _: None) == 42
        with pytest.raises(duckdb.CatalogException):
            execute_watched(connection, "FROM missing", lambda _: None)


def test_extensions_are_never_fetched(tmp_path: Path) -> None:
    with DATABASE.connect(tmp_path) as connection, pytest.raises(duckdb.Error):
        connection.execute("FROM read_parquet('https://localhost/x.parquet')")


def test_copies_that_fail_while_they_write_all_end(tmp_path: Path) -> None:
    """In another process, because a wait within DuckDB can't be interrupted."""
    process = multiprocessing.get_context("spawn").Process(
        target=fail_to_copy, args=(str(tmp_path), 200)
    )
    process.start()
    process.join(timeout=60)
    process.kill()
    assert process.exitcode == 0
