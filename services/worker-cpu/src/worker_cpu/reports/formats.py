"""Numbers, money and months as Brazilians write them, whatever the locale of the machine."""

from datetime import date
from decimal import Decimal, localcontext
from typing import Final

from babel.dates import format_date
from babel.numbers import format_decimal

NO_VALUE: Final = "—"

_LOCALE: Final = "pt_BR"
_PRECISION: Final = 80
"""More digits than any sum has; Babel can't round a number of more than the context's 28."""
_UNITS: Final = ((10**9, "bi"), (10**6, "mi"), (10**3, "mil"))


def number(value: int) -> str:
    """Format a whole number: 1.234.567."""
    return _formatted(value, "#,##0")


def money(value: Decimal | None) -> str:
    """Format reais with cents: R$ 1.234,56."""
    if value is None:
        return NO_VALUE
    return _formatted(value or Decimal(0), "R$ #,##0.00")  # an average may be -0.00


def short_money(value: float) -> str:
    """Format reais for an axis: R$ 1,5 mi."""
    for size, unit in _UNITS:
        if abs(value) >= size:
            return f"R$ {_formatted(Decimal(value / size), '0.#')} {unit}"
    return f"R$ {value:.0f}"


def plain_money(value: Decimal | None) -> str:
    """Format reais for a spreadsheet: 1234,56, or nothing if there is no value."""
    return "" if value is None else _formatted(value, "0.00")


def percent(value: Decimal | None) -> str:
    """Format a change in percent, with its sign: +12,34%."""
    return NO_VALUE if value is None else _formatted(value, "+#,##0.00;-#,##0.00") + "%"


def month_name(month: str) -> str:
    """Format YYYY-MM: janeiro de 2025."""
    return format_date(_first_day(month), "MMMM 'de' yyyy", _LOCALE)


def short_month(month: str) -> str:
    """Format YYYY-MM: jan/25."""
    return format_date(_first_day(month), "MMM/yy", _LOCALE).replace(".", "")


def _formatted(value: Decimal | int, pattern: str) -> str:
    with localcontext(prec=_PRECISION):
        return format_decimal(value, pattern, _LOCALE)


def _first_day(month: str) -> date:
    return date.fromisoformat(f"{month}-01")
