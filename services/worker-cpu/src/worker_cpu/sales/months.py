"""Months as `YYYY-MM`, counted."""

from calendar import monthrange


def shift_month(month: str, by: int) -> str:
    """Return the month that is `by` months later, or earlier if it is negative."""
    index = _index(month) + by
    return f"{index // 12:04d}-{index % 12 + 1:02d}"


def months_between(first: str, last: str) -> list[str]:
    """Return the months from `first` to `last`, both included."""
    return [shift_month(first, by) for by in range(_index(last) - _index(first) + 1)]


def days_in(month: str) -> int:
    """Return how many days the month has."""
    year, number = month.split("-")
    return monthrange(int(year), int(number))[1]


def _index(month: str) -> int:
    year, number = month.split("-")
    return int(year) * 12 + int(number) - 1
