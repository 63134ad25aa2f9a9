import gzip
import json
import random
from datetime import date

import pytest

from contracts.errors import RejectedError, RetryableError
from contracts.schemas import ProcessCsvArgs, ProcessCsvResult
from contracts.storage import open_storage
from unit.worker_cpu.cpu_lane import CpuLane
from worker_cpu.settings import WorkerCpuSettings
from worker_cpu.tasks import CpuTasks

NOISE = random.Random(1).randbytes(5000)  # noqa: S311 - test data


def counts(result: ProcessCsvResult) -> tuple[int, int, int]:
    return result.rows_in, result.rows_clean, result.rows_quarantined


def types(result: ProcessCsvResult) -> list[str]:
    return [column.type for column in result.columns]


def test_clean_file_keeps_every_value_in_its_type(lane: CpuLane) -> None:
    result = lane.process(
        "id,name,price,day,seen,ok\n"
        "1,Ana,1.5,2025-01-31,2025-01-31 10:00:00,true\n"
        "2,Bia,,2025-02-01,2025-02-01T11:30:00,false\n"
    )
    assert counts(result) == (2, 2, 0)
    assert types(result) == ["BIGINT", "VARCHAR", "DOUBLE", "DATE", "TIMESTAMP", "BOOLEAN"]
    assert lane.rows()[1][:4] == (2, "Bia", None, date(2025, 2, 1))
    assert lane.quarantine() == []
    assert (result.encoding, result.delimiter) == ("utf-8", ",")


def test_profile_describes_each_column(lane: CpuLane) -> None:
    result = lane.process("n,t\n1,a\n2,b\n2,\n7,b\n")
    number, text = result.columns
    assert (number.minimum, number.maximum, number.mean, number.nulls) == ("1", "7", "3", 0)
    assert [(top.value, top.count) for top in number.top_values] == [("2", 2)]
    assert (text.nulls, text.distinct, text.mean) == (1, 2, None)
    written = json.loads(lane.artifact("profile.json"))
    assert [column["name"] for column in written["columns"]] == ["n", "t"]


def test_gzip_is_read_like_the_plain_file(lane: CpuLane) -> None:
    plain = "a,b\n1,x\n2,y\n"
    assert counts(lane.process(gzip.compress(plain.encode()))) == (2, 2, 0)
    assert lane.rows() == [(1, "x"), (2, "y")]


def test_truncated_gzip_is_rejected(lane: CpuLane) -> None:
    with pytest.raises(RejectedError, match="gzip file is broken"):
        lane.process(gzip.compress(NOISE)[:-20])


def test_gzip_that_grows_beyond_the_limit_is_rejected(
    settings: WorkerCpuSettings, lane: CpuLane
) -> None:
    bounded = settings.model_copy(update={"max_csv_bytes": 10_000})
    lane.tasks = CpuTasks(bounded, open_storage(settings.storage_url))
    with pytest.raises(RejectedError, match="more than 10,000 bytes"):
        lane.process(gzip.compress(b"a\n" + b"1\n" * 100_000))


@pytest.mark.parametrize(
    ("encoding", "reported"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("latin-1", "cp1252"),  # the same bytes, for every letter of Portuguese
        ("cp850", "cp850"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
    ],
)
def test_text_is_the_same_in_every_encoding(lane: CpuLane, encoding: str, reported: str) -> None:
    text = "região;descrição\nsul;açúcar e pão\nnorte;às vezes, é útil\n"
    result = lane.process(text.encode(encoding))
    assert result.encoding == reported
    assert lane.rows() == [("sul", "açúcar e pão"), ("norte", "às vezes, é útil")]
    assert result.columns[0].name == "região"


def test_non_ascii_far_into_the_file_is_still_found(lane: CpuLane) -> None:
    lines = ["id,name", *(f"{number},plain" for number in range(200_000)), "200000,São Paulo"]
    result = lane.process("\n".join(lines).encode("latin-1"))
    assert result.encoding == "cp1252"
    assert lane.rows()[-1] == (200_000, "São Paulo")


def test_damaged_utf8_line_is_quarantined_and_the_rest_kept(lane: CpuLane) -> None:
    content = "n,t\n1,ação\n2,é\n3,".encode() + b"\xff\xfe\n4,ok\n"
    assert counts(lane.process(content)) == (4, 3, 1)
    assert lane.quarantine() == [(4, "", "not valid UTF-8", r"3,\xff\xfe")]


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


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found(lane: CpuLane, delimiter: str) -> None:
    text = "a,b,c\n1,x y,2\n3,z,4\n".replace(",", delimiter)
    assert lane.process(text).delimiter == delimiter
    assert lane.rows() == [(1, "x y", 2), (3, "z", 4)]


@pytest.mark.parametrize("content", [b"", b"\n\n \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_empty_file_is_rejected(lane: CpuLane, content: bytes) -> None:
    with pytest.raises(RejectedError, match="empty"):
        lane.process(content)


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04" + b"\0" * 100,
        b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
        NOISE,
        b"a,b\n1,\0\n",
        gzip.compress(NOISE),
    ],
)
def test_binary_file_is_rejected(lane: CpuLane, content: bytes) -> None:
    with pytest.raises(RejectedError, match=r"not text|binary"):
        lane.process(content)


def test_upload_that_expired_is_rejected_with_advice(lane: CpuLane) -> None:
    args = ProcessCsvArgs(file_id="sha256:" + "0" * 64)
    with pytest.raises(RejectedError, match="upload it again"):
        lane.tasks.process_csv(args, lane.job("job"))


@pytest.mark.parametrize("content", ["a,b\n", "a,b", "a,b\r\n", "a,b\n\n\n"])
def test_header_only_file_has_no_rows(lane: CpuLane, content: str) -> None:
    result = lane.process(content)
    assert counts(result) == (0, 0, 0)
    assert [column.name for column in result.columns] == ["a", "b"]
    assert lane.rows() == []


def test_file_without_a_header_gets_numbered_columns(lane: CpuLane) -> None:
    result = lane.process("1,2025-01-01,x\n2,2025-01-02,y\n")
    assert [column.name for column in result.columns] == ["column_1", "column_2", "column_3"]
    assert counts(result) == (2, 2, 0)


def test_years_may_be_the_names_of_columns(lane: CpuLane) -> None:
    result = lane.process("region,2024,2025\nsul,1,2\n")
    assert [column.name for column in result.columns] == ["region", "2024", "2025"]


def test_duplicate_missing_and_hostile_column_names_are_made_usable(lane: CpuLane) -> None:
    result = lane.process("""a,A,,"x'y","p""q; DROP TABLE t",a_2\n1,2,3,4,5,6\n""")
    names = [column.name for column in result.columns]
    assert names == ["a", "A_2", "column_3", "x'y", 'p"q; DROP TABLE t', "a_2_2"]
    assert lane.rows() == [(1, 2, 3, 4, 5, 6)]


def test_column_names_that_our_sql_uses_are_like_any_other(lane: CpuLane) -> None:
    row = ",".join(["1"] * 6) + "\n"
    result = lane.process("n,number,mismatch,sample,rows,key\n" + row * 50 + "x" + row[1:])
    assert counts(result) == (51, 50, 1)


def test_ragged_lines_are_quarantined_with_line_column_and_text(lane: CpuLane) -> None:
    result = lane.process("a,b,c\n1,2,3\n4,5\n\n6,7,8,9\n10,11,12\n")
    assert counts(result) == (4, 2, 2)
    assert lane.quarantine() == [
        (3, "c", "2 columns instead of 3", "4,5"),
        (5, "", "4 columns instead of 3", "6,7,8,9"),
    ]
    assert [line.line for line in result.quarantine_preview] == [3, 5]


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


def test_quoted_newlines_delimiters_and_quotes_are_kept(lane: CpuLane) -> None:
    result = lane.process('n,t\n1,"two\nlines, ""quoted"""\n2,""\n3,"x"\nbad\n4,y\n')
    assert counts(result) == (5, 4, 1)
    assert lane.rows() == [(1, 'two\nlines, "quoted"'), (2, None), (3, "x"), (4, "y")]
    assert lane.quarantine() == [(6, "t", "1 columns instead of 2", "bad")]


def test_line_numbers_are_those_of_an_editor_after_multiline_values(lane: CpuLane) -> None:
    rows = "".join(f'{number},"a\n\nb"\n' for number in range(1, 51))
    lane.process("n,t\n" + rows + 'x,"c\nd"\n51,e\ny,f\n')
    assert [(line, raw) for line, _, _, raw in lane.quarantine()] == [
        (152, 'x,"c\nd"'),
        (155, "y,f"),
    ]


def test_unclosed_quote_quarantines_its_own_line_only(lane: CpuLane) -> None:
    rows = "".join(f"{number},ok\n" for number in range(1000))
    result = lane.process('n,t\n1,"never closed\n' + rows + '2,"fine"\n')
    assert counts(result) == (1002, 1001, 1)
    [(line, column, _, raw)] = lane.quarantine()
    assert (line, column, raw) == (2, "t", '1,"never closed')


def test_unclosed_quote_on_the_last_line_is_quarantined(lane: CpuLane) -> None:
    assert counts(lane.process('n,t\n1,x\n2,"end')) == (2, 1, 1)
    assert lane.quarantine() == [(3, "t", "a quoted value is never closed", '2,"end')]


def test_text_after_a_quoted_value_is_quarantined(lane: CpuLane) -> None:
    assert counts(lane.process('n,t\n1,"a"b\n2,c\n')) == (2, 1, 1)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_quoted_values_beside_any_delimiter_are_read(lane: CpuLane, delimiter: str) -> None:
    text = '"a","b, c",d\n1,"x, y",""\n"2",,"z"\n3,bad\n'.replace(",", delimiter)
    assert counts(lane.process(text)) == (3, 2, 1)
    assert lane.rows() == [(1, f"x{delimiter} y", None), (2, None, "z")]


def test_quotes_within_unquoted_values_and_spaces_around_quotes_are_accepted(
    lane: CpuLane,
) -> None:
    assert counts(lane.process('n,t,u\n1,5" pipe,x\n2, "a, b" ,y\n')) == (2, 2, 0)
    assert lane.rows() == [(1, '5" pipe', "x"), (2, "a, b", "y")]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_is_read(lane: CpuLane, newline: str) -> None:
    result = lane.process(newline.join(["a,b", "1,x", "2,y", "3", ""]))
    assert counts(result) == (3, 2, 1)
    assert lane.quarantine() == [(4, "b", "1 columns instead of 2", "3")]


def test_mixed_line_ends_are_read(lane: CpuLane) -> None:
    assert counts(lane.process("a,b\r\n1,x\n2,y\r\n3,z\rw\n")) == (3, 3, 0)
    assert lane.rows() == [(1, "x"), (2, "y"), (3, "z\rw")]


def test_lone_carriage_return_in_the_header_loses_no_row(lane: CpuLane) -> None:
    assert counts(lane.process('a\r"b\n1\n2\n')) == (2, 2, 0)


def test_lone_carriage_return_in_a_bad_line_is_kept_in_the_quarantine(lane: CpuLane) -> None:
    assert counts(lane.process("a,b\n1,x\nbad\rline\n")) == (2, 1, 1)
    assert lane.quarantine()[0][3] == "bad\rline"


def test_nul_in_a_later_line_is_quarantined(lane: CpuLane) -> None:
    rows = "".join(f"{number},ok\n" for number in range(10_000))
    assert counts(lane.process("n,t\n" + rows + "1,\0\n2,x\n")) == (10_002, 10_001, 1)
    assert lane.quarantine()[0][2] == "contains a NUL character"


def test_huge_field_is_kept_and_an_overlong_line_is_quarantined(lane: CpuLane) -> None:
    large = "x" * 900_000
    overlong = "y" * 5_000_000
    result = lane.process(f"n,t\n1,{large}\n2,{overlong}\n3,z\n")
    assert counts(result) == (3, 2, 1)
    [(line, _, reason, raw)] = lane.quarantine()
    assert (line, reason) == (3, "longer than 1,048,576 bytes")
    assert len(raw) <= 16 * 1024
    assert [len(text) for _, text in lane.rows()] == [900_000, 1]
    assert len(result.model_dump_json()) < 10_000


def test_overlong_line_at_the_end_is_quarantined_once(lane: CpuLane) -> None:
    assert counts(lane.process("n,t\n1,x\n2," + "y" * 5_000_000)) == (2, 1, 1)


def test_file_full_of_bad_lines_ends_with_a_clear_result(lane: CpuLane) -> None:
    result = lane.process("a,b\n" + "one,two,three\n" * 50_000)
    assert counts(result) == (50_000, 0, 50_000)
    assert len(result.quarantine_preview) == 20
    assert len(result.model_dump_json()) < 16_000


def test_more_columns_than_allowed_are_rejected(lane: CpuLane) -> None:
    with pytest.raises(RejectedError, match="501 columns"):
        lane.process(",".join(f"c{number}" for number in range(501)) + "\n")


def test_every_record_is_counted_whatever_the_damage(lane: CpuLane) -> None:
    generator = random.Random(7)  # noqa: S311 - test data
    pieces = ["1", "x", '"', '""', ",", ",", "\n", "\n", "\r\n", '"a\nb"', " ", "é", "2025-01-01"]
    for number in range(60):
        text = "a,b,c\n" + "".join(generator.choices(pieces, k=generator.randint(1, 400)))
        result = lane.process(text, job_id=f"fuzz-{number}")
        assert result.rows_in == result.rows_clean + result.rows_quarantined
        assert len(lane.rows(f"fuzz-{number}")) == result.rows_clean
        assert len(lane.quarantine(f"fuzz-{number}")) == result.rows_quarantined


def test_running_twice_leaves_identical_bytes(lane: CpuLane) -> None:
    content = 'n,t\n1,x\n2,"y\nz"\nbad\n3,w\n' * 50
    for job in ("first", "second"):
        lane.process(content, job_id=job)
    for name in ("data.parquet", "quarantine.csv", "profile.json"):
        assert lane.artifact(name, "first") == lane.artifact(name, "second")


def test_sample_is_the_same_for_the_same_name_and_rows(lane: CpuLane) -> None:
    result = lane.generate("vendas_2023.csv", 5_000, "first")
    lane.generate("vendas_2023.csv", 5_000, "second")
    lane.generate("other_2023.csv", 5_000, "third")
    assert result.generated
    assert counts(result) == (5_000, 5_000, 0)
    assert lane.rows("first") == lane.rows("second")
    assert lane.rows("first") != lane.rows("third")


def test_sample_is_of_the_year_that_its_name_mentions(lane: CpuLane) -> None:
    result = lane.generate("vendas_2023.csv", 5_000)
    assert result.sales
    assert result.sales.months == [f"2023-{month:02d}" for month in range(1, 13)]


def test_scratch_folder_is_empty_afterwards_even_after_an_error(
    lane: CpuLane, settings: WorkerCpuSettings
) -> None:
    lane.process("a\n1\n")
    with pytest.raises(RejectedError):
        lane.process(b"")
    assert list(settings.scratch_folder.iterdir()) == []


def test_fault_rate_makes_attempts_fail_for_demonstration(
    lane: CpuLane, settings: WorkerCpuSettings
) -> None:
    faulty = settings.model_copy(update={"fault_rate": 1.0})
    lane.tasks = CpuTasks(faulty, open_storage(settings.storage_url))
    with pytest.raises(RetryableError, match="on purpose"):
        lane.process("a\n1\n")
