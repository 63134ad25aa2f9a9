"""DuckDB as every job uses it: bounded memory, a spill folder of its own, no network."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

PARQUET: Final = "FORMAT parquet, COMPRESSION zstd"
"""The options of every COPY to a Parquet file."""

_POLL_SECONDS: Final = 0.25


@dataclass(frozen=True)
class Database:
    """What a job may use: bytes of memory before DuckDB spills, and threads."""

    memory_limit_bytes: int
    threads: int = 1

    @contextmanager
    def connect(self, scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open an in-memory database that spills into the `scratch` folder."""
        connection = duckdb.connect(
            config={
                "memory_limit": f"{self.memory_limit_bytes}B",
                "threads": self.threads,
                # With any, DuckDB 2.0 sometimes waits for ever when a COPY fails: for writes that
                # it has cancelled (compare duckdb/duckdb#23885).
                "async_threads": 0,
                "temp_directory": str(scratch / "spill"),
                # One order of rows means one content of every output.
                "preserve_insertion_order": True,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        try:
            connection.execute("SET enable_progress_bar = true")
            connection.execute("SET enable_progress_bar_print = false")
            yield connection
        finally:
            connection.close()


@contextmanager
def one_thread(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Run statements on one thread, where the order of rows decides the bytes of the result."""
    [threads] = connection.execute("SELECT current_setting('threads')").fetchone() or (1,)
    connection.execute("SET threads = 1")
    try:
        yield
    finally:
        connection.execute(f"SET threads = {threads}")


def execute_watched(
    connection: duckdb.DuckDBPyConnection, sql: str, watch: Callable[[float], None]
) -> int:
    """Execute `sql`, calling `watch` with the share that is done (0 to 1); return its count.

    The statement runs in a thread of its own and `watch` in the caller's, because Celery knows
    the current task by its thread. A deadline that interrupts the caller interrupts the statement.
    """
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: connection.execute(sql).fetchone())
        try:
            _poll(connection, running, watch)
        except BaseException:
            connection.interrupt()
            raise
        row = running.result()
    return int(row[0]) if row else 0


def _poll(
    connection: duckdb.DuckDBPyConnection,
    running: "Future[tuple[object, ...] | None]",
    watch: Callable[[float], None],
) -> None:
    while not _finished(running):
        percent = connection.query_progress()
        if percent >= 0:  # -1 means that DuckDB does not know yet
            watch(percent / 100)


def _finished(running: "Future[tuple[object, ...] | None]") -> bool:
    try:
        running.exception(timeout=_POLL_SECONDS)
    except TimeoutError:
        return False
    return True


def quoted(text: str | Path) -> str:
    """Return `text` as an SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return `name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
