"""Sales to upload, and their figures as Python's csv and decimal see them."""

import csv
import io
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from datetime import date
from decimal import Decimal
from typing import Final

PRODUCTS: Final = ("teclado", "mouse", "monitor", "cadeira", "mesa")


@dataclass(frozen=True)
class Sale:
    """A line of a sales file: its fields are the columns."""

    sale_id: int
    date: date
    region: str
    product: str
    quantity: int
    unit_price: Decimal


@dataclass(frozen=True)
class Figures:
    """Sums over the sales of one region and month."""

    rows: int
    quantity: int
    revenue: Decimal
    revenue_by_product: dict[str, Decimal]


def make_sales(count: int, region: str, seed: int, year: int = 2025) -> list[Sale]:
    """Return sales of three months, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - test data
    return [
        Sale(
            sale_id=number,
            date=date(year, chance.randint(1, 3), chance.randint(1, 28)),
            region=region,
            product=chance.choice(PRODUCTS),
            quantity=chance.randint(1, 20),
            unit_price=Decimal(chance.randint(1, 999_999)) / 100,
        )
        for number in range(1, count + 1)
    ]


def to_csv(sales: Iterable[Sale]) -> bytes:
    """Write sales as a plain CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Sale))
    writer.writerows(map(astuple, sales))
    return text.getvalue().encode()


def figures_of(content: bytes, region: str, month: str) -> Figures:
    """Sum up a CSV without any of the code under test."""
    rows = quantity = 0
    by_product: defaultdict[str, Decimal] = defaultdict(Decimal)
    for line in csv.DictReader(io.StringIO(content.decode(), newline="")):
        if line["region"] != region or not line["date"].startswith(month):
            continue
        rows += 1
        quantity += int(line["quantity"])
        by_product[line["product"]] += int(line["quantity"]) * Decimal(line["unit_price"])
    return Figures(rows, quantity, sum(by_product.values(), Decimal()), dict(by_product))
