from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_cpu.reports import formats

SWAPPED = str.maketrans(",.", ".,")
AMOUNTS = st.decimals(-(10**36), 10**36, places=2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1234.56"), "R$ 1.234,56"),
        (Decimal("-0.5"), "-R$ 0,50"),
        (Decimal(0), "R$ 0,00"),
        (Decimal("-0.00"), "R$ 0,00"),
        (Decimal("12345678901234567890.12"), "R$ 12.345.678.901.234.567.890,12"),
        (None, "—"),
    ],
)
def test_money_is_written_as_in_brazil(value: Decimal | None, text: str) -> None:
    assert formats.money(value) == text


@given(AMOUNTS)
def test_every_digit_of_an_amount_is_written(value: Decimal) -> None:
    sign = "-" if value < 0 else ""
    assert formats.money(value) == f"{sign}R$ {value.copy_abs():,.2f}".translate(SWAPPED)
    assert formats.plain_money(value) == f"{value:.2f}".translate(SWAPPED)
    assert formats.percent(value) == f"{value:+,.2f}%".translate(SWAPPED)


@given(st.integers(-(10**40), 10**40))
def test_every_digit_of_a_number_is_written(value: int) -> None:
    assert formats.number(value) == f"{value:,}".translate(SWAPPED)


def test_spreadsheet_cell_without_a_value_is_empty() -> None:
    assert formats.plain_money(None) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "R$ 0"),
        (950, "R$ 950"),
        (1500, "R$ 1,5 mil"),
        (-1500, "R$ -1,5 mil"),
        (2e6, "R$ 2 mi"),
        (3.25e9, "R$ 3,2 bi"),
        (5e12, "R$ 5000 bi"),
    ],
)
def test_axes_have_short_amounts(value: float, text: str) -> None:
    assert formats.short_money(value) == text


@pytest.mark.parametrize(
    ("month", "name", "short"),
    [
        ("2025-01", "janeiro de 2025", "jan/25"),
        ("2025-02", "fevereiro de 2025", "fev/25"),
        ("2025-03", "março de 2025", "mar/25"),
        ("2025-04", "abril de 2025", "abr/25"),
        ("2025-05", "maio de 2025", "mai/25"),
        ("2025-06", "junho de 2025", "jun/25"),
        ("2025-07", "julho de 2025", "jul/25"),
        ("2025-08", "agosto de 2025", "ago/25"),
        ("2025-09", "setembro de 2025", "set/25"),
        ("2025-10", "outubro de 2025", "out/25"),
        ("2025-11", "novembro de 2025", "nov/25"),
        ("0999-12", "dezembro de 0999", "dez/99"),
    ],
)
def test_months_have_names(month: str, name: str, short: str) -> None:
    assert (formats.month_name(month), formats.short_month(month)) == (name, short)


def test_percent_has_a_sign() -> None:
    assert formats.percent(Decimal("1234.5")) == "+1.234,50%"
    assert formats.percent(Decimal("-3.1")) == "-3,10%"
    assert formats.percent(None) == "—"
