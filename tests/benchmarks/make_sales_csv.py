"""Write a large CSV of believable sales: `python tests/benchmarks/make_sales_csv.py PATH [ROWS]`.

The same rows every time: the path's file name and the number of rows decide them.
"""

# ruff: noqa: T201 - a script, which prints

import argparse
import tempfile
import time
from pathlib import Path

from worker_cpu.database import Database
from worker_cpu.sales.sample import write_sample

DEFAULT_ROWS = 10_000_000
MEMORY_BYTES = 256 * 1024 * 1024


def make_sales_csv(path: Path, rows: int) -> None:
    """Write `rows` sales to `path`."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        Database(MEMORY_BYTES).connect(Path(scratch)) as connection,
    ):
        write_sample(connection, path.name, rows, path, lambda *_: None)


def main() -> None:
    """Read the arguments, write the file, print its size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("rows", type=int, nargs="?", default=DEFAULT_ROWS)
    options = parser.parse_args()
    started = time.monotonic()
    make_sales_csv(options.path, options.rows)
    size_mb = options.path.stat().st_size / 1e6
    seconds = time.monotonic() - started
    print(f"{options.path}: {options.rows:,} rows, {size_mb:,.0f} MB, {seconds:.1f} s")


if __name__ == "__main__":
    main()
