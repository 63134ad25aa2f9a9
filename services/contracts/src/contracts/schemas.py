"""One Args and one Result model per task: what travels in a message and what comes back.

Messages are small, frozen and additive: a file is referred to by its id, a new field has a
default, and workers are deployed before the API that sends it. Decimals travel as strings.
"""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    EmailStr,
    Field,
    HttpUrl,
    StringConstraints,
    TypeAdapter,
    model_validator,
)

MAX_SUM_DIGITS = 4_000  # Python refuses to read or print integers above 4,300 digits
MAX_SAMPLE_ROWS = 50_000_000
MAX_FAN_OUT_URLS = 1_000
_SUM_BOUND = 10**MAX_SUM_DIGITS
ALL_REGIONS = "all"


class Args(BaseModel):
    """Arguments of a task: strict, so that a wrong type is an error and never a guess."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Result(BaseModel):
    """What a task leaves behind, as JSON."""

    model_config = ConfigDict(frozen=True)


def _plain_file_name(name: str) -> str:
    if "/" in name or "\\" in name or ".." in name or name == ".":
        raise ValueError("must be a plain file name, without a path or '..'")
    if not name.isprintable() or name != name.strip():
        raise ValueError("must have no control characters and no spaces at its ends")
    return name


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must have no control characters")
    return text


def _bounded_integer(value: int) -> int:
    if abs(value) >= _SUM_BOUND:
        raise ValueError(f"must have at most {MAX_SUM_DIGITS:,} digits")
    return value


_http_url = TypeAdapter(HttpUrl)


def _web_address(url: str) -> str:
    _http_url.validate_python(url)
    return url


FileName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    AfterValidator(_plain_file_name),
]
FileId = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Month = Annotated[
    str,
    StringConstraints(pattern=r"^[1-9][0-9]{3}-(0[1-9]|1[0-2])$"),
    Field(description="A month as YYYY-MM.", examples=["2025-01"]),
]
Region = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, strip_whitespace=True, to_lower=True),
    AfterValidator(_printable),
    Field(description="A region's name, or `all`.", examples=["sudeste"]),
]
WebAddress = Annotated[str, StringConstraints(max_length=2_000), AfterValidator(_web_address)]
Integer = Annotated[int, AfterValidator(_bounded_integer)]
ReportType = Literal["vendas", "vendas_mensal"]


# --- cpu.sum_numbers ---


class SumArgs(Args):
    """Two integers of any size up to 4,000 digits."""

    a: Integer = Field(examples=[2])
    b: Integer = Field(examples=[3])


class SumResult(Result):
    """Their exact sum."""

    total: int


# --- io.draw_number ---


class DrawArgs(Args):
    """Nothing: a draw has no arguments."""


class DrawResult(Result):
    """The number drawn, 7 to 10: a lower one is a retry."""

    number: int


# --- io.fetch_url, io.fan_out ---


class FetchUrlArgs(Args):
    """An http or https address on an allowed host."""

    url: WebAddress = Field(examples=["http://httpbin:8080/delay/1"])


class FetchUrlResult(Result):
    """How the address answered. 4xx is an answer; 5xx and timeouts are retried."""

    url: str
    status: int
    elapsed_seconds: float
    size_bytes: int
    content_type: str | None = None


class FanOutArgs(Args):
    """Many addresses, called at the same time within one job."""

    urls: list[WebAddress] = Field(
        min_length=1,
        max_length=MAX_FAN_OUT_URLS,
        examples=[["http://httpbin:8080/delay/1", "http://httpbin:8080/status/404"]],
    )


class FanOutResult(Result):
    """The answers, in the order of the addresses, and the time all of them took together."""

    responses: list[FetchUrlResult]
    elapsed_seconds: float


# --- cpu.process_csv ---


class ProcessCsvArgs(Args):
    """A CSV by its name; without a file of that name, a sample of `num_rows` sales is generated."""

    filename: FileName = "vendas_2025.csv"
    num_rows: int = Field(
        default=100_000,
        ge=1,
        le=MAX_SAMPLE_ROWS,
        description="Rows of the generated sample; unused when there is a file of that name.",
    )
    file_id: FileId | None = Field(
        default=None,
        description="The content. The API fills it in with the newest upload of that name.",
    )


class TopValue(Result):
    """A frequent value of a column and how often it occurs."""

    value: str
    count: int


class ColumnProfile(Result):
    """What one column holds. Minimum, maximum and mean as text, as they are of any type."""

    name: str
    type: str
    nulls: int
    distinct: int
    distinct_estimated: bool = Field(
        default=True, description="True if `distinct` is an estimate (HyperLogLog), false if exact."
    )
    minimum: str | None = None
    maximum: str | None = None
    mean: str | None = None
    top_values: list[TopValue] = []


class QuarantinedLine(Result):
    """A line that could not be read, where, why, and its raw text."""

    line: int
    column: str | None
    reason: str
    raw: str


class SalesImport(Result):
    """What a file with the sales columns brought into the sales dataset."""

    source: str
    rows: int
    months: list[str]
    changed: bool = Field(description="False when the dataset held exactly these rows already.")


class ProcessCsvResult(Result):
    """What the file held. `rows_in = rows_clean + rows_quarantined` always."""

    filename: str
    generated: bool
    encoding: str
    delimiter: str
    rows_in: int
    rows_clean: int
    rows_quarantined: int
    columns: list[ColumnProfile]
    quarantine_preview: list[QuarantinedLine] = []
    sales: SalesImport | None = None
    artifacts: list[str]


# --- cpu.aggregate_sales ---


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


# --- cpu.render_report, io.send_report ---


class RenderReportArgs(Args):
    """Which report. Without a month: the newest that is stored."""

    report_type: ReportType = "vendas_mensal"
    region: Region = ALL_REGIONS
    month: Month | None = None


class RenderReportResult(Result):
    """The subject of the report and the artifacts it consists of."""

    subject: str
    month: str | None
    rows: int
    html: str
    text: str
    chart: str
    chart_alt: str
    table: str


class SendReportArgs(RenderReportArgs):
    """A report and who gets it."""

    email: EmailStr = Field(max_length=254, examples=["analista@empresa.com"])


class SendReportResult(Result):
    """Proof of the mail that was handed to the mail server."""

    email: str
    subject: str
    message_id: str
    attachments: list[str]


# --- io.purge_files ---


class PurgeFilesArgs(Args):
    """Nothing: lifetimes are settings."""


class PurgeFilesResult(Result):
    """What had expired."""

    uploads: int
    artifacts: int
    freed_bytes: int
