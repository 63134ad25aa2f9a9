"""Conversions of small CSVs, for the tests that compare two ways to convert the same rows."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from hypothesis import strategies as st

from worker_cpu.csv_import.column_facts import NOTHING_KNOWN
from worker_cpu.csv_import.conversion import Conversion
from worker_cpu.csv_import.dialect import Dialect
from worker_cpu.csv_import.quarantine import QuarantineWriter, read_quarantine
from worker_cpu.csv_import.records import RecordShape
from worker_cpu.csv_import.screening import ScreenedFile, Screening
from worker_cpu.database import Database

LIMITS = Database(memory_limit_bytes=128 * 1024 * 1024, threads=2)
OPEN = ExitStack()


@cache
def database() -> duckdb.DuckDBPyConnection:
    return OPEN.enter_context(LIMITS.connect(OPEN.enter_context(scratch())))


class WarmDatabase(Database):
    """Has one database for all connections: to open another takes longer than a small CSV."""

    @contextmanager
    def connect(self, scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:  # noqa: ARG002 - it spills in its own
        with database().cursor() as connection:
            yield connection


DATABASE = WarmDatabase(LIMITS.memory_limit_bytes, LIMITS.threads)

WHOLE = st.integers(0, 10**19).map(str)
DAYS = st.dates().map(str) | st.sampled_from(["2025-02-30", "0999-01-01", "2025-13-01"])
CENTS = st.decimals(0, 10**16, places=2).map(str)
EDGE_CASES = st.sampled_from(
    [
        *("", "0", "00", "01", "-1", "+1", " 1", "1 ", "1e2", "1E2", "10e-1", "0x10", "0b1", "1_0"),
        *("1.5", "1.", ".5", ".50", "1.999", "1.995", "1.500", "-0.50", "1e1.00", "0.50", "00.50"),
        *("2025-1-5", " 2025-01-05", "2025-01-05 ", "2025/01/05", "20250105", "2025-01-0x"),
        *("2025-01-05 10:00:00", "inf", "infinity", "nan", "true", "-", ".", "'", "é", "\u0661"),
        *("9999999999", "999999999", "2147483648", "12345678", "123456789", "1234567890123456"),
        *(
            "123456789012345678",
            "1234567890123456789",
            " ",
            "\t",
            "\x1f",
            "\x7f",
            "\u00a0x",
            "5\u00a0",
            "x",
        ),
    ]
)
FIELDS = WHOLE | DAYS | CENTS | EDGE_CASES
QUOTED = FIELDS.map('"{}"'.format) | st.sampled_from(['"a\nb"', '"a,b"', '"say ""x"""', '" "'])


@st.composite
def columns_of_fields(draw: st.DrawFn) -> list[list[str]]:
    """Return columns that mostly hold one kind, so that many facts hold, or nearly hold."""
    height = draw(st.integers(1, 12))
    columns = []
    for _ in range(draw(st.integers(2, 4))):
        kind = draw(st.sampled_from([WHOLE, DAYS, CENTS, FIELDS, st.just("7"), EDGE_CASES]))
        column = draw(st.lists(kind, min_size=height, max_size=height))
        if draw(st.booleans()):
            column[draw(st.integers(0, height - 1))] = draw(FIELDS | QUOTED)
        columns.append(column)
    return columns


def as_csv(columns: list[list[str]]) -> bytes:
    return "".join(",".join(row) + "\n" for row in zip(*columns, strict=True)).encode()


@contextmanager
def scratch() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name)


def screen(source: Path, dialect: Dialect, folder: Path, chunks: list[bytes]) -> ScreenedFile:
    shape = RecordShape(dialect.delimiter, dialect.columns)
    with QuarantineWriter(folder / "malformed.csv") as faults:
        screening = Screening(shape, source, folder, faults, has_header=dialect.has_header)
        return screening.run(chunks)


def convert(
    connection: duckdb.DuckDBPyConnection, screened: ScreenedFile, dialect: Dialect, folder: Path
) -> tuple[object, ...]:
    with QuarantineWriter(folder / "mismatched_lines.csv") as mismatches:
        target = folder / "data.parquet"
        conversion = Conversion(connection, screened, dialect, folder, target, lambda *_: None)
        clean = conversion.run(mismatches)
    table = duckdb.read_parquet(str(folder / "data.parquet"))
    return (
        clean,
        table.fetchall(),
        table.types,
        list(read_quarantine(folder / "mismatched_lines.csv")),
    )


def assert_same_as_unproven(content: bytes, dialect: Dialect) -> None:
    with scratch() as folder, DATABASE.connect(folder) as connection:
        source = folder / "source.csv"
        source.write_bytes(content)
        screened = screen(source, dialect, folder, [content])
        nothing = [NOTHING_KNOWN] * len(dialect.columns)
        unproven = replace(screened, facts=nothing, outliers=[], mark_starts=[])
        found = convert(connection, screened, dialect, folder)
        assert found == convert(connection, unproven, dialect, folder)
