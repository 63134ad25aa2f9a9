from decimal import Decimal

import pytest

from worker_cpu.reports import brazilian


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1234.56"), "R$ 1.234,56"),
        (Decimal("-0.5"), "-R$ 0,50"),
        (Decimal(0), "R$ 0,00"),
        (Decimal("12345678901234567890.12"), "R$ 12.345.678.901.234.567.890,12"),
        (None, "—"),
    ],
)
def test_money_is_written_as_in_brazil(value: Decimal | None, text: str) -> None:
    assert brazilian.money(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "R$ 0"), (950, "R$ 950"), (1500, "R$ 1,5 mil"), (2e6, "R$ 2 mi"), (3.25e9, "R$ 3,2 bi")],
)
def test_axes_have_short_amounts(value: float, text: str) -> None:
    assert brazilian.short_money(value) == text


def test_months_have_names() -> None:
    assert brazilian.month_name("2025-03") == "março de 2025"
    assert brazilian.short_month("2025-12") == "dez/25"


def test_percent_has_a_sign() -> None:
    assert brazilian.percent(Decimal("1234.5")) == "+1.234,50%"
    assert brazilian.percent(Decimal("-3.1")) == "-3,10%"
