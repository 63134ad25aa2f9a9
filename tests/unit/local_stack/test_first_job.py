"""What a person is shown of the first job."""

from local_stack.first_job import summary


def test_summary_gives_the_numbers_the_months_and_the_files() -> None:
    result = {
        "filename": "vendas.csv",
        "rows_in": 12_000,
        "rows_clean": 11_990,
        "rows_quarantined": 10,
        "sales": {"rows": 11_990, "months": ["2025-01", "2025-02"]},
        "artifacts": ["vendas.parquet", "quarantine.csv"],
    }
    assert summary({"state": "succeeded", "result": result}) == [
        "vendas.csv: 12,000 rows, 11,990 clean, 10 quarantined",
        "imported 11,990 sales of 2025-01, 2025-02",
        "files: vendas.parquet, quarantine.csv",
    ]


def test_summary_of_a_file_without_sales_has_no_months() -> None:
    result = {
        "filename": "pessoas.csv",
        "rows_in": 1,
        "rows_clean": 1,
        "rows_quarantined": 0,
        "sales": None,
        "artifacts": ["pessoas.parquet"],
    }
    assert len(summary({"state": "succeeded", "result": result})) == 2


def test_job_that_waits_behind_others_is_no_fault() -> None:
    (line,) = summary({"state": "queued", "result": None})
    assert "busy" in line
