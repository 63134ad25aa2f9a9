"""Write a large CSV of believable sales: `python tests/benchmarks/make_sales_csv.py PATH [ROWS]`.

The same rows every time: the path's file name and the number of rows decide them.
"""

# ruff: noqa: T201 - a script, which prints

import sys
import tempfile
import time
from pathlib import Path

from worker_cpu.engine import Engine
from worker_cpu.sample import write_sample

DEFAULT_ROWS = 10_000_000
MEMORY_BYTES = 256 * 1024 * 1024


def make_sales_csv(path: Path, rows: int) -> None:
    """Write `rows` sales to `path`."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        Engine(MEMORY_BYTES).connect(Path(scratch)) as connection,
    ):
        write_sample(connection, path.name, rows, path, lambda *_: None)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else DEFAULT_ROWS
    started = time.monotonic()
    make_sales_csv(target, count)
    size_mb = target.stat().st_size / 1e6
    print(f"{target}: {count:,} rows, {size_mb:,.0f} MB, {time.monotonic() - started:.1f} s")
