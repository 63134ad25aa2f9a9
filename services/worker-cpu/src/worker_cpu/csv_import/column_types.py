"""The type of each column: SQL that turns text into a value, or into NULL where it does not fit.

DuckDB's casts alone are too kind: '1.5' becomes the integer 2, '1.999' the decimal 2.00, and a
date loses its time. Each reading here gives the very value that the text says, or none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import duckdb

from worker_cpu.csv_import.column_facts import ColumnFacts
from worker_cpu.database import identifier, quoted
from worker_cpu.sales.columns import sales_columns

_LIKELY: Final = 0.9
"""A column has a type if so many of its sampled values have it; the others are quarantined."""
_ISO: Final = "iso"
_DAY_FIRST: Final = "day first"


def _never(_facts: ColumnFacts) -> bool:
    return False


@dataclass(frozen=True)
class Reading:
    """How a column is read: `{}` in `sql` stands for its text, which is never empty."""

    type: str
    sql: str
    required: bool = False
    suits_all: Callable[[ColumnFacts], bool] = field(default=_never, compare=False)
    """Whether the facts of a column prove that DuckDB reads the same values as its type."""

    def is_proven(self, facts: ColumnFacts) -> bool:
        """Say whether a column of these facts can be read as its type, without this SQL."""
        return self.suits_all(facts) and (facts.filled or not self.required)

    def expression(self, column: str) -> str:
        """Return the SQL of the value of `column`."""
        return self.sql.replace("{}", identifier(column))

    def fault(self, column: str) -> str:
        """Return the SQL condition that a text does not fit, or "" if any does."""
        value = self.expression(column)
        if self.required:
            return f"({value}) IS NULL"
        if self == TEXT:
            return ""
        return f"({identifier(column)} IS NOT NULL AND ({value}) IS NULL)"


def _whole(sql_type: str, pattern: str) -> str:
    # Most numbers survive the way back to text, which is far cheaper than a pattern.
    cast = f"TRY_CAST({{}} AS {sql_type})"
    return (
        f"CASE WHEN {cast}::VARCHAR = {{}} THEN {cast}"
        f" WHEN regexp_full_match(trim({{}}), {quoted(pattern)})"
        f" THEN TRY_CAST(trim({{}}) AS {sql_type}) END"
    )


def _date(parse: str) -> str:
    # Ten characters at most: a date with a time would lose it. 'infinity' is a date to DuckDB, as
    # are years before Christ; a year of two digits is a guess.
    believable = "BETWEEN DATE '1000-01-01' AND DATE '9999-12-31'"
    trimmed = parse.replace("{}", "trim({})")
    return (
        f"CASE WHEN strlen({{}}) = 10 AND {parse} {believable} THEN {parse}"  # spares most the trim
        f" WHEN length(trim({{}})) <= 10 AND {trimmed} {believable} THEN {trimmed} END"
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

TEXT: Final = Reading("VARCHAR", "{}", suits_all=lambda _: True)
_DATES: Final = {
    _ISO: Reading("DATE", _date("TRY_CAST({} AS DATE)"), suits_all=_is_iso_date),
    _DAY_FIRST: Reading("DATE", _date("TRY_CAST(try_strptime({}, '%d/%m/%Y') AS DATE)")),
}
_CANDIDATES: Final = (
    Reading(
        "BOOLEAN",
        "CASE WHEN lower(trim({})) IN ('true', 'false') THEN TRY_CAST(trim({}) AS BOOLEAN) END",
    ),
    # A leading zero makes it a code, not a number.
    Reading("BIGINT", _whole("BIGINT", r"[+-]?(0|[1-9]\d*)"), suits_all=_is_bigint),
    Reading(
        "DOUBLE",
        "CASE WHEN isfinite(TRY_CAST({} AS DOUBLE)) AND NOT regexp_matches({}, '_|^\\s*[+-]?0\\d')"
        " THEN TRY_CAST({} AS DOUBLE) END",
    ),
    Reading(
        "DOUBLE",
        f"CASE WHEN regexp_full_match(trim({{}}), {quoted(_COMMA_PATTERN)})"
        f" AND NOT regexp_matches({{}}, '^\\s*[+-]?0\\d') THEN TRY_CAST({_COMMA} AS DOUBLE) END",
    ),
    *_DATES.values(),
    Reading("TIMESTAMP", "TRY_CAST({} AS TIMESTAMP)"),
    Reading(
        "TIMESTAMP",
        "TRY_CAST(try_strptime(trim({}),"
        " ['%d/%m/%Y %H:%M:%S', '%d/%m/%Y %H:%M', '%d/%m/%Y']) AS TIMESTAMP)",
    ),
)


def infer_readings(
    connection: duckdb.DuckDBPyConnection, sample: str, columns: Sequence[str]
) -> dict[str, Reading]:
    """Choose a reading for each text column of the table `sample`; sales have fixed types."""
    sales = sales_columns(columns)
    readings = _sales_readings(connection, sample, sales) if sales else {}
    return {
        column: readings.get(column)
        or _first_likely(connection, sample, column, _CANDIDATES)
        or TEXT
        for column in columns
    }


def _first_likely(
    connection: duckdb.DuckDBPyConnection,
    sample: str,
    column: str,
    candidates: Sequence[Reading],
) -> Reading | None:
    counts = ", ".join(f"count({reading.expression(column)})" for reading in candidates)
    row = connection.execute(
        f"SELECT count({identifier(column)}), {counts} FROM {sample}"  # noqa: S608 - quoted
    ).fetchone()
    filled, *fitting = row or (0,)
    likely = (
        reading
        for reading, count in zip(candidates, fitting, strict=False)
        if filled and count >= _LIKELY * filled
    )
    return next(likely, None)


def _sales_readings(
    connection: duckdb.DuckDBPyConnection, sample: str, sales: dict[str, str]
) -> dict[str, Reading]:
    """Fix the types of the sales columns; the file decides how dates and decimals are written."""
    day_first = _first_likely(connection, sample, sales["date"], [_DATES[_DAY_FIRST]])
    price = identifier(sales["unit_price"])
    row = connection.execute(
        f"SELECT coalesce(bool_or(contains({price}, ',')), false) FROM {sample}"  # noqa: S608 - quoted
    ).fetchone()
    with_comma = bool(row and row[0])
    return {
        sales["sale_id"]: Reading(
            "BIGINT", _whole("BIGINT", r"[+-]?\d+"), required=True, suits_all=_is_bigint
        ),
        sales["date"]: replace(day_first or _DATES[_ISO], required=True),
        sales["region"]: Reading("VARCHAR", _NOT_BLANK, required=True, suits_all=_is_visible),
        sales["product"]: Reading("VARCHAR", _NOT_BLANK, required=True, suits_all=_is_visible),
        sales["quantity"]: Reading(
            "INTEGER", _whole("INTEGER", r"[+-]?\d+"), required=True, suits_all=_is_integer
        ),
        sales["unit_price"]: (
            Reading(_DECIMAL, _decimal_with_comma(), required=True)
            if with_comma
            else Reading(_DECIMAL, _whole(_DECIMAL, _CENTS), required=True, suits_all=_is_decimal)
        ),
    }


def _decimal_with_comma() -> str:
    return (
        f"CASE WHEN regexp_full_match(trim({{}}), {quoted(_CENTS_COMMA)})"
        f" THEN TRY_CAST({_COMMA} AS {_DECIMAL}) END"
    )
