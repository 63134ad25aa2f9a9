"""What each column of a Parquet file holds.

A column of values that repeat is counted value by value, and everything follows from the counts.
Where most values differ, counting each would need memory without bound: distinct values are
estimated, and of the frequent ones only candidates are counted.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from twinlane_tasks.csv import ColumnProfile, TopValue
from worker_cpu.database import identifier, one_thread, quoted

TOP_VALUES: Final = 5

_TEXT_CHARACTERS: Final = 80
_COUNTED_DISTINCT: Final = 100_000
"""The most distinct values of which each is counted; of more, only the seemingly frequent."""
_CANDIDATES: Final = 50
_COLUMNS_AT_ONCE: Final = 50
_WHOLE_NUMBERS: Final = ("BIGINT", "INTEGER")
_FLOAT: Final = "DOUBLE"
_DECIMAL: Final = "DECIMAL"


@dataclass(frozen=True)
class _Column:
    name: str
    type: str

    @property
    def sql(self) -> str:
        return identifier(self.name)

    @property
    def has_mean(self) -> bool:
        return self.type.startswith((*_WHOLE_NUMBERS, _FLOAT, _DECIMAL))


def profile_columns(connection: duckdb.DuckDBPyConnection, parquet: Path) -> list[ColumnProfile]:
    """Profile each column; texts are cut to 80 characters, means have up to 6 decimals."""
    table = f"read_parquet({quoted(parquet)})"
    described = connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()  # noqa: S608 - quoted
    columns = [_Column(str(row[0]), str(row[1])) for row in described]
    repetitive = _repetitive(connection, parquet)
    [rows] = connection.execute(f"SELECT count(*) FROM {table}").fetchone() or (0,)  # noqa: S608 - quoted
    profiles = {
        column: _counted(connection, table, column, rows)
        for column in columns
        if column.name in repetitive
    }
    others = [column for column in columns if column not in profiles]
    for start in range(0, len(others), _COLUMNS_AT_ONCE):
        some = others[start : start + _COLUMNS_AT_ONCE]
        profiles |= zip(some, _estimated(connection, table, some, rows), strict=True)
    return [profiles[column] for column in columns]


def write_profile(profile: Sequence[ColumnProfile], target: Path) -> None:
    """Write the profile as JSON."""
    columns = [column.model_dump(mode="json") for column in profile]
    target.write_text(json.dumps({"columns": columns}, ensure_ascii=False, indent=2) + "\n")


def _repetitive(connection: duckdb.DuckDBPyConnection, parquet: Path) -> set[str]:
    """Return the columns with few distinct values, by their dictionaries in the Parquet file."""
    rows = connection.execute(
        "SELECT any_value(path_in_schema) FROM parquet_metadata(?)"
        " GROUP BY column_id HAVING count(*) = count(stats_distinct_count)"
        " AND sum(stats_distinct_count) <= ?",
        [str(parquet), _COUNTED_DISTINCT],
    ).fetchall()
    return {str(name) for (name,) in rows}


def _counted(
    connection: duckdb.DuckDBPyConnection, table: str, column: _Column, rows: int
) -> ColumnProfile:
    row = connection.execute(
        f"WITH counts AS MATERIALIZED (SELECT {column.sql} AS v, count(*) AS n FROM {table}"  # noqa: S608 - quoted
        f" WHERE {column.sql} IS NOT NULL GROUP BY v)"
        f" SELECT coalesce(sum(n), 0)::BIGINT, count(*), {_text('min(v)')}, {_text('max(v)')},"
        f" {_mean_of_counts(column)}, (SELECT list([{_text('v')}, n::VARCHAR])"
        f" FROM (FROM counts WHERE n > 1 ORDER BY n DESC, v LIMIT {TOP_VALUES})) FROM counts"
    ).fetchone()
    filled, distinct, minimum, maximum, mean, top = row or (0, 0, None, None, None, [])
    return ColumnProfile(
        name=column.name,
        type=column.type,
        nulls=rows - filled,
        distinct=distinct,
        distinct_estimated=False,
        minimum=minimum,
        maximum=maximum,
        mean=_decimals(mean),
        top_values=[TopValue(value=value, count=int(count)) for value, count in top or []],
    )


def _mean_of_counts(column: _Column) -> str:
    if not column.has_mean:
        return "NULL"
    if column.type.startswith(_FLOAT):  # a sum of floats depends on its order
        return "sum(v * n ORDER BY v) / sum(n)"
    exact = "v" if column.type.startswith(_DECIMAL) else "v::HUGEINT"
    return f"sum({exact} * n)::DOUBLE / sum(n)"


def _estimated(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[_Column], rows: int
) -> Iterator[ColumnProfile]:
    measures = ", ".join(map(_measures, columns))
    with _in_order(connection, columns):
        values = connection.execute(f"SELECT {measures} FROM {table}").fetchone() or ()  # noqa: S608 - quoted
    for index, column in enumerate(columns):
        filled, distinct, minimum, maximum, mean = values[index * 5 : index * 5 + 5]
        yield ColumnProfile(
            name=column.name,
            type=column.type,
            nulls=rows - filled,
            distinct=distinct,
            minimum=minimum,
            maximum=maximum,
            mean=_decimals(mean),
            top_values=_top_values(connection, table, column, distinct, filled),
        )


def _in_order(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[_Column]
) -> AbstractContextManager[None]:
    floats = any(column.type.startswith(_FLOAT) for column in columns)
    return one_thread(connection) if floats else nullcontext()


def _measures(column: _Column) -> str:
    mean = f"avg({column.sql})" if column.has_mean else "NULL"
    return (
        f"count({column.sql}), approx_count_distinct({column.sql}),"
        f" {_text(f'min({column.sql})')}, {_text(f'max({column.sql})')}, {mean}"
    )


def _top_values(
    connection: duckdb.DuckDBPyConnection, table: str, column: _Column, distinct: int, filled: int
) -> list[TopValue]:
    """Return the most frequent values; none if nearly all differ."""
    wanted = f"{column.sql} IS NOT NULL"
    if distinct > _COUNTED_DISTINCT:
        if 2 * distinct > filled:
            return []
        wanted = (
            f"list_contains((SELECT approx_top_k({column.sql}, {_CANDIDATES}) FROM {table}),"  # noqa: S608 - quoted
            f" {column.sql})"
        )
    with one_thread(connection):  # the candidates depend on the order of the rows
        rows = connection.execute(
            f"SELECT {_text(column.sql)}, count(*) FROM {table} WHERE {wanted}"  # noqa: S608 - quoted
            f" GROUP BY {column.sql} HAVING count(*) > 1 ORDER BY count(*) DESC, {column.sql}"
            f" LIMIT {TOP_VALUES}"
        ).fetchall()
    return [TopValue(value=value, count=count) for value, count in rows]


def _decimals(mean: Any) -> str | None:  # noqa: ANN401 - DuckDB returns floats and Decimals
    return None if mean is None else f"{mean:.6f}".rstrip("0").rstrip(".")


def _text(expression: str) -> str:
    return f"left(({expression})::VARCHAR, {_TEXT_CHARACTERS})"
