"""Processing of CSV files: what is asked for, and what came of a file."""

from datetime import timedelta
from typing import Final

from pydantic import Field

from twinlane_sdk.fields import FileId, FileName
from twinlane_sdk.lanes import Lane
from twinlane_sdk.task_spec import Args, Result, TaskSpec

MAX_SAMPLE_ROWS = 50_000_000


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
    top_values: list[TopValue] = Field(default=[])


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
    quarantine_preview: list[QuarantinedLine] = Field(default=[])
    sales: SalesImport | None = None
    artifacts: list[str]


PROCESS_CSV: Final = TaskSpec(
    name="cpu.process_csv",
    lane=Lane.CPU,
    args=ProcessCsvArgs,
    result=ProcessCsvResult,
    summary="Profile a CSV, quarantine its bad lines, convert it to Parquet, import its sales.",
    deadline=timedelta(minutes=20),
)

TASKS: Final = (PROCESS_CSV,)
