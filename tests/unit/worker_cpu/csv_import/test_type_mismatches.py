"""Files with a few bad lines: the others are read as fast as without, and nothing is lost."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unit.worker_cpu.csv_import.conversions import (
    DATABASE,
    FIELDS,
    QUOTED,
    assert_same_as_unproven,
    scratch,
    screen,
)
from worker_cpu.csv_import import conversion, importing
from worker_cpu.csv_import.conversion import Conversion
from worker_cpu.csv_import.dialect import Dialect
from worker_cpu.csv_import.importing import CsvImport
from worker_cpu.csv_import.quarantine import read_quarantine
from worker_cpu.csv_import.segments import MARK_RECORDS
from worker_cpu.database import Database

COLUMNS = ("sale_id", "date", "region", "product", "quantity", "unit_price")
USUAL = ["7", "2025-01-31", "sul", "Headset", "2", "10.00"]
ROWS = 3 * MARK_RECORDS


@pytest.fixture
def small_groups() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "_GROUP_ROWS", MARK_RECORDS)
        yield


@pytest.fixture
def no_second_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_fitting(*_: object) -> int:
        raise AssertionError("everything was cast twice")

    monkeypatch.setattr(Conversion, "_write_fitting", write_fitting)


def sales(changes: Mapping[int, str | tuple[int, str]]) -> bytes:
    """Return a file of ROWS usual sales, in some of which a field or the whole line is another."""
    lines = [",".join([str(number), *USUAL[1:]]) for number in range(ROWS)]
    for row, change in changes.items():
        if isinstance(change, str):
            lines[row] = change
        else:
            index, field = change
            values = lines[row].split(",")
            lines[row] = ",".join([*values[:index], field, *values[index + 1 :]])
    return "\n".join([",".join(COLUMNS), *lines, ""]).encode()


def import_sales(folder: Path, content: bytes, threads: int = 2) -> CsvImport:
    source = folder / "source.csv"
    source.write_bytes(content)
    database = Database(DATABASE.memory_limit_bytes, threads)
    return importing.import_csv(source, folder, database, 100, lambda *_: None)


CHANGES = st.tuples(st.integers(0, len(COLUMNS) - 1), FIELDS | QUOTED) | st.sampled_from(
    ["bad", "", "1,2,3,4,5,6,7", '1,"', '5,2025-01-31,"s\nul","a,b",2,10.00', "1,2,3,4,5,6\0"]
)


@pytest.mark.usefixtures("small_groups")
@settings(deadline=None, max_examples=25)
@given(st.dictionaries(st.integers(0, ROWS - 1) | st.integers(0, 5), CHANGES, max_size=12))
def test_outliers_checked_on_their_own_equal_those_read_with_all(
    changes: dict[int, str | tuple[int, str]],
) -> None:
    assert_same_as_unproven(sales(changes), Dialect(",", COLUMNS, has_header=True))


@pytest.mark.usefixtures("small_groups", "no_second_pass")
def test_a_few_mismatches_need_no_second_pass(tmp_path: Path) -> None:
    found = import_sales(
        tmp_path,
        sales(
            {
                0: (4, "dois"),
                1: "bad",
                2: (4, "+5"),
                3: (5, "7\u00a0"),  # spaces that DuckDB does not read as such
                4_000: (2, ""),
                4_001: (3, '"Cabo,\nUSB"'),
                5_000: (4, "99999999999"),
                ROWS - 1: (1, "ontem"),
            }
        ),
    )
    assert (found.rows_in, found.rows_clean, found.rows_quarantined) == (ROWS, ROWS - 5, 5)
    assert [(bad.line, bad.column, bad.reason) for bad in found.quarantine_preview] == [
        (2, "quantity", "'dois' is not of type INTEGER"),
        (3, "date", "1 columns instead of 6"),
        (4_002, "region", "is empty"),
        (5_003, "quantity", "'99999999999' is not of type INTEGER"),
        (ROWS + 2, "date", "'ontem' is not of type DATE"),
    ]
    bad = list(read_quarantine(tmp_path / importing.QUARANTINE))[-1]
    assert bad.raw == f"{ROWS - 1},ontem,sul,Headset,2,10.00"
    rows = duckdb.execute(
        "SELECT sale_id, product, quantity, unit_price::VARCHAR FROM read_parquet(?)",
        [str(tmp_path / importing.DATA)],
    ).fetchall()
    assert rows[:3] == [
        (2, "Headset", 5, "10.00"),
        (3, "Headset", 2, "7.00"),
        (4, "Headset", 2, "10.00"),
    ]
    assert [row[0] for row in rows] == sorted({*range(ROWS)} - {0, 1, 4_000, 5_000, ROWS - 1})
    assert (4_001, "Cabo,\nUSB", 2, "10.00") in rows


@pytest.mark.usefixtures("small_groups", "no_second_pass")
def test_row_groups_are_full_without_what_is_left_out(tmp_path: Path) -> None:
    changes: dict[int, str | tuple[int, str]] = dict.fromkeys(range(5, 30), (4, "x"))
    import_sales(tmp_path, sales({**changes, 2 * MARK_RECORDS + 25: (0, "x")}))
    groups = duckdb.execute(
        "SELECT DISTINCT row_group_id, row_group_num_rows FROM parquet_metadata(?) ORDER BY 1",
        [str(tmp_path / importing.DATA)],
    ).fetchall()
    assert groups == [(0, MARK_RECORDS), (1, MARK_RECORDS), (2, MARK_RECORDS - 26)]


@pytest.mark.usefixtures("small_groups")
def test_threads_leave_the_same_bytes_whatever_is_left_out() -> None:
    content = sales(dict.fromkeys(range(100, ROWS, 400), (4, "x")))
    files = []
    for threads in (1, 2, 2):
        with scratch() as folder:
            import_sales(folder, content, threads)
            names = (importing.DATA, importing.QUARANTINE, importing.PROFILE)
            files.append([(folder / name).read_bytes() for name in names])
    assert files[0] == files[1] == files[2]


def test_a_column_of_many_outliers_proves_nothing(tmp_path: Path) -> None:
    few, many = (dict.fromkeys(range(0, count, 2), (4, "x")) for count in (60, 600))
    dialect = Dialect(",", COLUMNS, has_header=True)
    source = tmp_path / "source.csv"
    source.write_bytes(sales(few))
    screened = screen(source, dialect, tmp_path, [source.read_bytes()])
    assert [outlier.number for outlier in screened.outliers] == list(few)
    assert screened.facts[4].whole
    source.write_bytes(sales(many))
    screened = screen(source, dialect, tmp_path, [source.read_bytes()])
    assert screened.outliers == []
    assert not screened.facts[4].whole
    assert screened.facts[5].cents
