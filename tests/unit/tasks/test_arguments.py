from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from twinlane_sdk.task_spec import Args, TaskSpec
from twinlane_tasks.catalogue import bundled_tasks
from twinlane_tasks.csv import ProcessCsvArgs
from twinlane_tasks.draws import DrawArgs
from twinlane_tasks.http import FanOutArgs, FetchUrlArgs
from twinlane_tasks.reports import SendReportArgs
from twinlane_tasks.sales import AggregateSalesArgs, ProductSales
from twinlane_tasks.sums import SumArgs, SumResult

CATALOGUE = bundled_tasks()
SPECS = pytest.mark.parametrize("spec", CATALOGUE.values(), ids=CATALOGUE)


def refusal(model: type[Args], **fields: object) -> tuple[str, str]:
    """Return the field that is named by the one error, and the rule."""
    try:
        model.model_validate(fields)
    except ValidationError as refused:  # a name that stayed would never be collected, in a circle
        (error,) = refused.errors()
        return ".".join(map(str, error["loc"])), error["msg"]
    pytest.fail(f"{fields} are taken")


@pytest.mark.parametrize("rows", [1, 50_000_000])
def test_sample_may_have_one_to_fifty_million_rows(rows: int) -> None:
    assert ProcessCsvArgs(num_rows=rows).num_rows == rows


@pytest.mark.parametrize("rows", [0, -1, 50_000_001, "100", 1.5, 1e3, True, None])
def test_other_numbers_of_rows_are_refused(rows: object) -> None:
    field, _ = refusal(ProcessCsvArgs, num_rows=rows)
    assert field == "num_rows"


@pytest.mark.parametrize("name", ["vendas.csv", "mês 01.csv.gz", ".hidden", "a" * 200, "a.b-c_d"])
def test_plain_name_is_a_file_name(name: str) -> None:
    assert ProcessCsvArgs(filename=name).filename == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "a/b.csv",
        "a\\b.csv",
        ".",
        "..",
        "../a.csv",
        "a..csv",
        "a\n.csv",
        "a\x00.csv",
        " a.csv",
        "a.csv ",
        "a" * 201,
        5,
    ],
)
def test_file_name_with_a_path_or_worse_is_refused(name: object) -> None:
    field, _ = refusal(ProcessCsvArgs, filename=name)
    assert field == "filename"


@pytest.mark.parametrize("file_id", ["", "sha256:abc", "md5:" + "0" * 64, "sha256:" + "G" * 64])
def test_file_id_is_the_sha256_of_the_content(file_id: str) -> None:
    field, _ = refusal(ProcessCsvArgs, file_id=file_id)
    assert field == "file_id"


@pytest.mark.parametrize("month", ["2025-01", "1999-12", "1000-01", "9999-12"])
def test_month_is_a_year_and_a_month(month: str) -> None:
    assert AggregateSalesArgs(month=month).month == month


@pytest.mark.parametrize(
    "month",
    [
        "2025-13",
        "2025-00",
        "0000-01",
        "0999-12",
        "2025-1",
        "25-01",
        "2025/01",
        "2025-01-01",
        "",
        "2025-01\n",
        1,
    ],
)
def test_other_months_are_refused(month: object) -> None:
    field, _ = refusal(AggregateSalesArgs, month=month)
    assert field == "month"


def test_month_in_the_digits_of_another_script_is_refused() -> None:
    field, _ = refusal(AggregateSalesArgs, month="٢٠٢٥-01")
    assert field == "month"


def test_months_until_before_their_beginning_are_refused() -> None:
    _, rule = refusal(AggregateSalesArgs, month="2025-02", until="2025-01")
    assert "until needs a month that is not after it" in rule
    _, rule = refusal(AggregateSalesArgs, until="2025-01")
    assert "until needs a month that is not after it" in rule


def test_region_is_compared_in_lower_case_without_spaces_around() -> None:
    assert AggregateSalesArgs(region="  Sudeste ").region == "sudeste"


@pytest.mark.parametrize("region", ["", "   ", "x" * 101, 3])
def test_region_without_a_name_is_refused(region: object) -> None:
    field, _ = refusal(AggregateSalesArgs, region=region)
    assert field == "region"


def test_unknown_report_type_is_refused_with_a_list_of_the_known_ones() -> None:
    field, rule = refusal(SendReportArgs, email="ana@empresa.com", report_type="anual")
    assert field == "report_type"
    assert "vendas" in rule
    assert "vendas_mensal" in rule


@pytest.mark.parametrize(
    "email",
    ["", "ana", "ana@", "@empresa.com", "a b@empresa.com", "ana@empresa.com\nBcc: x@y.z", 5],
)
def test_address_that_is_none_is_refused(email: object) -> None:
    field, _ = refusal(SendReportArgs, email=email)
    assert field == "email"


def test_address_beyond_254_characters_is_refused() -> None:
    field, _ = refusal(SendReportArgs, email=f"ana@{'.'.join(['empresa' * 7] * 6)}.com")
    assert field == "email"


@pytest.mark.parametrize("url", ["", "httpbin.org", "ftp://host/", "file:///etc/passwd", "http://"])
def test_only_web_addresses_are_fetched(url: str) -> None:
    field, _ = refusal(FetchUrlArgs, url=url)
    assert field == "url"


def test_wrong_address_of_many_is_named_by_its_place() -> None:
    field, _ = refusal(FanOutArgs, urls=["http://a.b/", "nothing", "http://c.d/"])
    assert field == "urls.1"


@pytest.mark.parametrize("count", [0, 1_001])
def test_fan_out_has_one_to_a_thousand_addresses(count: int) -> None:
    field, _ = refusal(FanOutArgs, urls=["http://a.b/"] * count)
    assert field == "urls"


@pytest.mark.parametrize("value", [10**4_000 - 1, -(10**4_000) + 1, 0])
def test_integers_of_4000_digits_are_summed(value: int) -> None:
    assert SumArgs(a=value, b=0).a == value


@pytest.mark.parametrize("value", [10**4_000, -(10**4_000)])
def test_integers_of_more_digits_are_refused_with_the_limit(value: int) -> None:
    field, rule = refusal(SumArgs, a=value, b=0)
    assert field == "a"
    assert "4,000 digits" in rule


@pytest.mark.parametrize("value", ["1", 1.0, True, None, [1]])
def test_what_is_no_integer_is_never_taken_for_one(value: object) -> None:
    field, _ = refusal(SumArgs, a=value, b=0)
    assert field == "a"


def test_missing_argument_is_named() -> None:
    assert refusal(SumArgs, a=1) == ("b", "Field required")


@SPECS
def test_unknown_field_is_refused(spec: TaskSpec[Any, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        spec.args.model_validate({"colour": "blue"})
    assert ("colour",) in [error["loc"] for error in caught.value.errors()]


@SPECS
def test_arguments_and_results_are_frozen(spec: TaskSpec[Any, Any]) -> None:
    assert spec.args.model_config["frozen"]
    assert spec.result.model_config["frozen"]


@SPECS
def test_arguments_of_a_wrong_type_are_never_guessed(spec: TaskSpec[Any, Any]) -> None:
    assert spec.args.model_config["strict"]


@SPECS
def test_result_of_a_newer_worker_is_read_without_what_is_unknown(
    spec: TaskSpec[Any, Any],
) -> None:
    assert spec.result.model_config.get("extra", "ignore") == "ignore"


def test_draw_needs_no_arguments() -> None:
    assert DrawArgs().model_dump() == {}


def test_decimals_travel_as_text_and_stay_exact() -> None:
    sales = ProductSales(product="café", quantity=3, revenue=Decimal("0.10"))
    assert sales.model_dump(mode="json")["revenue"] == "0.10"
    assert ProductSales.model_validate(sales.model_dump(mode="json")) == sales


def test_sums_travel_as_integers_of_any_size() -> None:
    total = 2 * 10**4_000
    assert SumResult.model_validate_json(SumResult(total=total).model_dump_json()).total == total
