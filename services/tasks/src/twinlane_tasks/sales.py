"""Sums over the stored sales."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from twinlane_sdk.fields import Month
from twinlane_sdk.lanes import Lane
from twinlane_sdk.task_spec import Args, Result, TaskSpec

ALL_REGIONS = "all"


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must have no control characters")
    return text


Region = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, strip_whitespace=True, to_lower=True),
    AfterValidator(_printable),
    Field(description="A region's name, or `all`.", examples=["sudeste"]),
]


class AggregateSalesArgs(Args):
    """One region and month, or `all` of them, or the months from `month` to `until`."""

    region: Region = ALL_REGIONS
    month: Month | None = None
    until: Month | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "AggregateSalesArgs":
        if self.until is not None and (self.month is None or self.until < self.month):
            raise ValueError("until needs a month that is not after it")
        return self


class ProductSales(Result):
    """What one product brought."""

    product: str
    quantity: int
    revenue: Decimal


class SalesFigures(Result):
    """Sums over some sales. Revenue is exact; the average ticket is rounded to cents."""

    rows: int
    quantity: int
    revenue: Decimal
    average_ticket: Decimal | None


class AggregateSalesResult(Result):
    """Figures of the wanted sales beside those of as many months before."""

    region: str
    month: str | None
    until: str | None
    figures: SalesFigures
    top_products: list[ProductSales]
    previous_month: str | None
    previous: SalesFigures | None
    revenue_change_percent: Decimal | None


AGGREGATE_SALES: Final = TaskSpec(
    name="cpu.aggregate_sales",
    lane=Lane.CPU,
    args=AggregateSalesArgs,
    result=AggregateSalesResult,
    summary="Sum up the sales of a region and month, beside the month before.",
    deadline=timedelta(minutes=5),
)

TASKS: Final = (AGGREGATE_SALES,)
