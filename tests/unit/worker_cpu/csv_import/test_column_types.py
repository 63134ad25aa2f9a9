from datetime import date
from decimal import Decimal

import pytest

from unit.worker_cpu.cpu_lane import SALES_HEADER, CpuLane, counts, types


def test_brazilian_file_reads_decimal_commas_and_day_first_dates(lane: CpuLane) -> None:
    result = lane.process(
        'id;valor;dia;obs\n1;"1.234,56";31/01/2025;a\n2;-0,5;01/02/2025;"b;c"\n3;10;03/02/2025;\n'
    )
    assert result.delimiter == ";"
    assert types(result) == ["BIGINT", "DOUBLE", "DATE", "VARCHAR"]
    assert lane.rows() == [
        (1, 1234.56, date(2025, 1, 31), "a"),
        (2, -0.5, date(2025, 2, 1), "b;c"),
        (3, 10.0, date(2025, 2, 3), None),
    ]


def test_values_that_do_not_fit_are_quarantined_not_rounded(lane: CpuLane) -> None:
    good = "".join(f"{number},2025-01-01\n" for number in range(100))
    bad = "1.5,2025-01-01\nx,2025-01-01\n7,2025-02-30\n0x10,2025-01-01\n8,2025-01-01 10:00:00\n"
    result = lane.process("n,d\n" + good + bad)
    assert counts(result) == (105, 100, 5)
    assert lane.quarantine() == [
        (102, "n", "'1.5' is not of type BIGINT", "1.5,2025-01-01"),
        (103, "n", "'x' is not of type BIGINT", "x,2025-01-01"),
        (104, "d", "'2025-02-30' is not of type DATE", "7,2025-02-30"),
        (105, "n", "'0x10' is not of type BIGINT", "0x10,2025-01-01"),
        (106, "d", "'2025-01-01 10:00:00' is not of type DATE", "8,2025-01-01 10:00:00"),
    ]


@pytest.mark.parametrize(
    "date", ["infinity", "  infinity", "1-1-1 (BC)", "0000-01-01", "25-01-01", "01/01/25"]
)
def test_implausible_dates_are_quarantined(lane: CpuLane, date: str) -> None:
    result = lane.process("d,n\n" + "2025-01-01,1\n" * 50 + f"{date},2\n")
    assert types(result) == ["DATE", "BIGINT"]
    assert counts(result) == (51, 50, 1)


def test_codes_with_leading_zeros_stay_text(lane: CpuLane) -> None:
    result = lane.process("cep,n\n01310100,1\n20040002,2\n")
    assert types(result) == ["VARCHAR", "BIGINT"]
    assert lane.rows()[0] == ("01310100", 1)


def test_column_with_untypical_first_rows_becomes_text(lane: CpuLane) -> None:
    numbers = "".join(f"{number},1\n" for number in range(25_000))
    words = "".join(f"code-{number},2\n" for number in range(25_000))
    result = lane.process("code,n\n" + numbers + words)
    assert counts(result) == (50_000, 50_000, 0)
    assert types(result) == ["VARCHAR", "BIGINT"]


def test_column_names_that_our_sql_uses_are_like_any_other(lane: CpuLane) -> None:
    row = ",".join(["1"] * 6) + "\n"
    result = lane.process("n,number,mismatch,sample,rows,key\n" + row * 50 + "x" + row[1:])
    assert counts(result) == (51, 50, 1)


def test_sales_that_do_not_fit_their_types_are_quarantined(lane: CpuLane) -> None:
    bad = [
        "x,2025-01-01,sul,a,1,1.00",
        "1,2025-13-01,sul,a,1,1.00",
        "2,2025-01-01,,a,1,1.00",
        "3,2025-01-01,sul,  ,1,1.00",
        "4,2025-01-01,sul,a,1.5,1.00",
        "5,2025-01-01,sul,a,3000000000,1.00",
        "6,2025-01-01,sul,a,1,1.999",
        "7,2025-01-01,sul,a,1,",
        "8,2025-01-01,sul,a,1,1e2",
        "99999999999999999999,2025-01-01,sul,a,1,1.00",
    ]
    good = [
        "10,2025-01-01,sul,a,-1,1.5",
        "007,2025-01-01,sul,a,+2,1.500",
        "12,2025-01-01,sul,a,1,.5",
    ]
    result = lane.process(SALES_HEADER + "\n".join(bad + good) + "\n")
    assert [line.column for line in result.quarantine_preview] == [
        *("sale_id", "date", "region", "product", "quantity", "quantity"),
        *("unit_price", "unit_price", "unit_price", "sale_id"),
    ]
    assert (result.rows_in, result.rows_clean, result.rows_quarantined) == (13, 3, 10)
    assert lane.aggregate().figures.revenue == Decimal("2.00")
