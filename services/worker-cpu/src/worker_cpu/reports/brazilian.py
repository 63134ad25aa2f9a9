"""Numbers, money and months as Brazilians write them, whatever the locale of the machine."""

from decimal import Decimal
from typing import Final

_MONTHS: Final = (
    "janeiro",
    "fevereiro",
    "março",
    "abril",
    "maio",
    "junho",
    "julho",
    "agosto",
    "setembro",
    "outubro",
    "novembro",
    "dezembro",
)
_SWAP: Final = str.maketrans(",.", ".,")
NOTHING: Final = "—"
"""Stands where there is no value."""


def number(value: int) -> str:
    """Format a whole number: 1.234.567."""
    return f"{value:,}".translate(_SWAP)


def money(value: Decimal | None) -> str:
    """Format reais with cents: R$ 1.234,56."""
    if value is None:
        return NOTHING
    sign = "-" if value < 0 else ""
    return f"{sign}R$ {abs(value):,.2f}".translate(_SWAP)


def short_money(value: float) -> str:
    """Format reais for an axis: R$ 1,5 mi."""
    for size, name in ((1e9, "bi"), (1e6, "mi"), (1e3, "mil")):
        if abs(value) >= size:
            return f"R$ {value / size:.1f}".replace(".", ",").removesuffix(",0") + f" {name}"
    return f"R$ {value:.0f}"


def percent(value: Decimal | None) -> str:
    """Format a change in percent, with its sign: +12,34%."""
    return NOTHING if value is None else f"{value:+,.2f}%".translate(_SWAP)


def month_name(month: str) -> str:
    """Format YYYY-MM: janeiro de 2025."""
    year, index = month.split("-")
    return f"{_MONTHS[int(index) - 1]} de {year}"


def short_month(month: str) -> str:
    """Format YYYY-MM: jan/25."""
    year, index = month.split("-")
    return f"{_MONTHS[int(index) - 1][:3]}/{year[-2:]}"
