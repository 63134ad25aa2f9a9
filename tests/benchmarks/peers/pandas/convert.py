"""What pandas does with a CSV of sales: read, with its dates, and write as Parquet."""

import sys

import pandas as pd

from benchmarks.peers.cost import report


def convert(source: str, target: str) -> int:
    """Convert a CSV and return its number of rows."""
    sales = pd.read_csv(source, parse_dates=["date"])
    sales.to_parquet(target, compression="zstd", index=False)
    return len(sales)


if __name__ == "__main__":
    report(lambda: convert(*sys.argv[1:]))
