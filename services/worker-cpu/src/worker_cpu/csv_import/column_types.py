"""The type of each column: SQL that turns text into a value, or into NULL where it does not fit.

DuckDB's casts alone accept too much: '1.5' becomes the integer 2, '1.999' the decimal 2.00, and a
date loses its time. Each type here gives exactly the value that the text says, or none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import duckdb

from worker_cpu.csv_import.column_facts import ColumnFacts
from worker_cpu.database import identifier, quoted
from worker_cpu.sales.columns import sales_columns

_LIKELY: Final = 0.9
"""A column has a type if this share of its sampled values fits; the others are quarantined."""
_ISO: Final = "iso"
_DAY_FIRST: Final = "day first"


def _never(_facts: ColumnFacts) -> bool:
    return False


@dataclass(frozen=True)
class ColumnType:
    """A type and how it is read: `{}` in `sql` stands for a text, which is never empty."""

    name: str
    """In SQL."""
    sql: str
    required: bool = False
    proven_by: Callable[[ColumnFacts], bool] = field(default=_never, compare=False)
    """Whether a column of these facts has the same values when DuckDB reads it as this type."""

    def is_proven(self, facts: ColumnFacts) -> bool:
        """Return whether DuckDB may read a column of these facts as this type, without this SQL."""
        return self.proven_by(facts) and (facts.filled or not self.required)

    def expression(self, column: str) -> str:
        """Return the SQL of the value of `column`."""
        return self.sql.replace("{}", identifier(column))

    def mismatch(self, column: str) -> str:
        """Return the SQL condition that a text does not fit, or "" if every text does."""
        value = self.expression(column)
        if self.required:
            return f"({value}) IS NULL"
        if self == TEXT:
            return ""
        return f"({identifier(column)} IS NOT NULL AND ({value}) IS NULL)"


def _whole(sql_type: str, pattern: str) -> str:
    # Most numbers are the same when cast back to text, which is far cheaper than a pattern.
    cast = f"TRY_CAST({{}} AS {sql_type})"
    return (
        f"CASE WHEN {cast}::VARCHAR = {{}} THEN {cast}"
        f" WHEN regexp_full_match(trim({{}}), {quoted(pattern)})"
        f" THEN TRY_CAST(trim({{}}) AS {sql_type}) END"
    )


def _date(parse: str) -> str:
    # Ten characters at most: a date with a time would lose it. 'infinity' is a date to DuckDB, as
    # are years before Christ; a year of two digits is a guess.
    plausible = "BETWEEN DATE '1000-01-01' AND DATE '9999-12-31'"
    trimmed = parse.replace("{}", "trim({})")
    return (
        f"CASE WHEN strlen({{}}) = 10 AND {parse} {plausible} THEN {parse}"  # most need no trim
        f" WHEN length(trim({{}})) <= 10 AND {trimmed} {plausible} THEN {trimmed} END"
    )


_COMMA: Final = "replace(replace(trim({}), '.', ''), ',', '.')"
_COMMA_PATTERN: Final = r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d*)?"
_CENTS: Final = r"[+-]?(\d+(\.\d{0,2}0*)?|\.\d{1,2}0*)"
_CENTS_COMMA: Final = r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d{0,2}0*)?"
_DECIMAL: Final = "DECIMAL(18,2)"


def _is_bigint(facts: ColumnFacts) -> bool:
    return facts.whole


def _is_integer(facts: ColumnFacts) -> bool:
    return facts.whole and facts.short


def _is_decimal(facts: ColumnFacts) -> bool:
    return facts.cents or (facts.whole and facts.short)


def _is_iso_date(facts: ColumnFacts) -> bool:
    return facts.iso_date


def _is_visible(facts: ColumnFacts) -> bool:
    return facts.visible


_NOT_BLANK: Final = "CASE WHEN ascii({}) > 32 OR trim({}) <> '' THEN {} END"

TEXT: Final = ColumnType("VARCHAR", "{}", proven_by=lambda _: True)
_DATES: Final = {
    _ISO: ColumnType("DATE", _date("TRY_CAST({} AS DATE)"), proven_by=_is_iso_date),
    _DAY_FIRST: ColumnType("DATE", _date("TRY_CAST(try_strptime({}, '%d/%m/%Y') AS DATE)")),
}
_CANDIDATES: Final = (
    ColumnType(
        "BOOLEAN",
        "CASE WHEN lower(trim({})) IN ('true', 'false') THEN TRY_CAST(trim({}) AS BOOLEAN) END",
    ),
    # A leading zero makes it a code, not a number.
    ColumnType("BIGINT", _whole("BIGINT", r"[+-]?(0|[1-9]\d*)"), proven_by=_is_bigint),
    ColumnType(
        "DOUBLE",
        "CASE WHEN isfinite(TRY_CAST({} AS DOUBLE)) AND NOT regexp_matches({}, '_|^\\s*[+-]?0\\d')"
        " THEN TRY_CAST({} AS DOUBLE) END",
    ),
    ColumnType(
        "DOUBLE",
        f"CASE WHEN regexp_full_match(trim({{}}), {quoted(_COMMA_PATTERN)})"
        f" AND NOT regexp_matches({{}}, '^\\s*[+-]?0\\d') THEN TRY_CAST({_COMMA} AS DOUBLE) END",
    ),
    *_DATES.values(),
    ColumnType("TIMESTAMP", "TRY_CAST({} AS TIMESTAMP)"),
    ColumnType(
        "TIMESTAMP",
        "TRY_CAST(try_strptime(trim({}),"
        " ['%d/%m/%Y %H:%M:%S', '%d/%m/%Y %H:%M', '%d/%m/%Y']) AS TIMESTAMP)",
    ),
)


def infer_types(
    connection: duckdb.DuckDBPyConnection, sample: str, columns: Sequence[str]
) -> dict[str, ColumnType]:
    """Choose a type for each text column of the table `sample`; those of sales are fixed."""
    sales = sales_columns(columns)
    types = _sales_types(connection, sample, sales) if sales else {}
    return {
        column: types.get(column) or _first_likely(connection, sample, column, _CANDIDATES) or TEXT
        for column in columns
    }


def _first_likely(
    connection: duckdb.DuckDBPyConnection,
    sample: str,
    column: str,
    candidates: Sequence[ColumnType],
) -> ColumnType | None:
    counts = ", ".join(f"count({column_type.expression(column)})" for column_type in candidates)
    row = connection.execute(
        f"SELECT count({identifier(column)}), {counts} FROM {sample}"  # noqa: S608 - quoted
    ).fetchone()
    filled, *fitting = row or (0,)
    likely = (
        column_type
        for column_type, count in zip(candidates, fitting, strict=False)
        if filled and count >= _LIKELY * filled
    )
    return next(likely, None)


def _sales_types(
    connection: duckdb.DuckDBPyConnection, sample: str, sales: dict[str, str]
) -> dict[str, ColumnType]:
    """Fix the types of the sales columns; the file decides how dates and decimals are written."""
    day_first = _first_likely(connection, sample, sales["date"], [_DATES[_DAY_FIRST]])
    price = identifier(sales["unit_price"])
    row = connection.execute(
        f"SELECT coalesce(bool_or(contains({price}, ',')), false) FROM {sample}"  # noqa: S608 - quoted
    ).fetchone()
    with_comma = bool(row and row[0])
    return {
        sales["sale_id"]: ColumnType(
            "BIGINT", _whole("BIGINT", r"[+-]?\d+"), required=True, proven_by=_is_bigint
        ),
        sales["date"]: replace(day_first or _DATES[_ISO], required=True),
        sales["region"]: ColumnType("VARCHAR", _NOT_BLANK, required=True, proven_by=_is_visible),
        sales["product"]: ColumnType("VARCHAR", _NOT_BLANK, required=True, proven_by=_is_visible),
        sales["quantity"]: ColumnType(
            "INTEGER", _whole("INTEGER", r"[+-]?\d+"), required=True, proven_by=_is_integer
        ),
        sales["unit_price"]: (
            ColumnType(_DECIMAL, _decimal_with_comma(), required=True)
            if with_comma
            else ColumnType(
                _DECIMAL, _whole(_DECIMAL, _CENTS), required=True, proven_by=_is_decimal
            )
        ),
    }


def _decimal_with_comma() -> str:
    return (
        f"CASE WHEN regexp_full_match(trim({{}}), {quoted(_CENTS_COMMA)})"
        f" THEN TRY_CAST({_COMMA} AS {_DECIMAL}) END"
    )
