"""What each column of a Parquet file holds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb

from contracts.schemas import ColumnProfile, TopValue
from worker_cpu.engine import identifier, quoted

TOP_VALUES: Final = 5

_TEXT_CHARACTERS: Final = 80
_COUNTED_DISTINCT: Final = 100_000
"""Up to so many distinct values each is counted; of more, only those that seem frequent are."""
_CANDIDATES: Final = 50
_COLUMNS_AT_ONCE: Final = 50
_NUMBERS: Final = ("BIGINT", "INTEGER", "DOUBLE", "DECIMAL")


def profile_columns(connection: duckdb.DuckDBPyConnection, parquet: Path) -> list[ColumnProfile]:
    """Profile each column; texts are cut to 80 characters, means have up to 6 decimals."""
    table = f"read_parquet({quoted(parquet)})"
    described = connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()  # noqa: S608 - quoted
    columns = [(str(row[0]), str(row[1])) for row in described]
    profile: list[ColumnProfile] = []
    for start in range(0, len(columns), _COLUMNS_AT_ONCE):
        profile += _profile(connection, table, columns[start : start + _COLUMNS_AT_ONCE])
    return profile


def write_profile(profile: Sequence[ColumnProfile], target: Path) -> None:
    """Write the profile as JSON."""
    columns = [column.model_dump(mode="json") for column in profile]
    target.write_text(json.dumps({"columns": columns}, ensure_ascii=False, indent=2) + "\n")


def _profile(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[tuple[str, str]]
) -> list[ColumnProfile]:
    measures = ", ".join(_measures(name, sql_type) for name, sql_type in columns)
    row = connection.execute(f"SELECT count(*), {measures} FROM {table}").fetchone() or ()  # noqa: S608 - quoted
    rows, *values = row
    width = len(values) // len(columns)
    profile = []
    for index, (name, sql_type) in enumerate(columns):
        filled, distinct, minimum, maximum, mean = values[index * width : (index + 1) * width]
        profile.append(
            ColumnProfile(
                name=name,
                type=sql_type,
                nulls=rows - filled,
                distinct=distinct,
                minimum=minimum,
                maximum=maximum,
                mean=None if mean is None else f"{mean:.6f}".rstrip("0").rstrip("."),
                top_values=_top_values(connection, table, name, distinct, filled),
            )
        )
    return profile


def _measures(name: str, sql_type: str) -> str:
    column = identifier(name)
    mean = f"avg({column})" if sql_type.startswith(_NUMBERS) else "NULL"
    return (
        f"count({column}), approx_count_distinct({column}),"
        f" {_text(f'min({column})')}, {_text(f'max({column})')}, {mean}"
    )


def _top_values(
    connection: duckdb.DuckDBPyConnection, table: str, name: str, distinct: int, filled: int
) -> list[TopValue]:
    """Return the most frequent values; of nearly unique ones, none is worth the search."""
    column = identifier(name)
    wanted = f"{column} IS NOT NULL"
    if distinct > _COUNTED_DISTINCT:
        if 2 * distinct > filled:
            return []
        wanted = (
            f"list_contains((SELECT approx_top_k({column}, {_CANDIDATES}) FROM {table}), {column})"  # noqa: S608 - quoted
        )
    rows = connection.execute(
        f"SELECT {_text(column)}, count(*) FROM {table} WHERE {wanted}"  # noqa: S608 - quoted
        f" GROUP BY {column} HAVING count(*) > 1 ORDER BY count(*) DESC, {column}"
        f" LIMIT {TOP_VALUES}"
    ).fetchall()
    return [TopValue(value=value, count=count) for value, count in rows]


def _text(expression: str) -> str:
    return f"left(({expression})::VARCHAR, {_TEXT_CHARACTERS})"
