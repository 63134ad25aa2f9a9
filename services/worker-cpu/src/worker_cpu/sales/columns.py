"""The columns that make a file one of sales."""

from collections.abc import Sequence
from typing import Final

SALES_COLUMNS: Final = ("sale_id", "date", "region", "product", "quantity", "unit_price")


def sales_columns(columns: Sequence[str]) -> dict[str, str] | None:
    """Map the sales columns to a file's, in any order and case; None if one is missing."""
    found = {column.strip().lower(): column for column in columns}
    if not found.keys() >= set(SALES_COLUMNS):
        return None
    return {name: found[name] for name in SALES_COLUMNS}
