import csv
import gzip
import hashlib
import io
import random
from dataclasses import replace
from decimal import Decimal

import pytest

from e2e.client import Api, Json, problem, unique
from e2e.sales import Sale, figures_of, make_sales, to_csv


def revenue(api: Api, region: str, month: str = "2025-01") -> Decimal:
    args = {"region": region, "month": month}
    result = api.succeeded(api.submit("cpu.aggregate_sales", args))
    return Decimal(result["figures"]["revenue"])


def processed(api: Api, name: str, content: bytes) -> Json:
    job = api.process(name, content)
    assert job["state"] == "succeeded", job
    result: Json = job["result"]
    assert result["rows_in"] == result["rows_clean"] + result["rows_quarantined"]
    return result


# --- uploading ---


def test_form_and_bare_body_store_the_same_content_under_the_same_id(api: Api) -> None:
    content = to_csv(make_sales(10, unique("region"), seed=21))
    name, other = unique("form", ".csv"), unique("bare", ".csv")

    form = api.post("/v1/files", files={"file": (name, content, "text/csv")})
    bare = api.post("/v1/files", params={"filename": other}, content=content)

    assert (form.status_code, bare.status_code) == (201, 201)
    digest = hashlib.sha256(content).hexdigest()
    assert form.json()["id"] == bare.json()["id"] == f"sha256:{digest}"
    assert (form.json()["filename"], bare.json()["filename"]) == (name, other)
    assert form.headers["Location"] == f"/v1/files/{form.json()['id']}"


def test_uploaded_file_can_be_looked_up_by_its_id(api: Api) -> None:
    content = unique("content").encode()
    uploaded = api.upload(unique("known", ".csv"), content)

    known = api.read(f"/v1/files/{uploaded['id']}")

    assert known == uploaded
    assert known["size_bytes"] == len(content)
    assert known["expires_at"] > known["uploaded_at"]


def test_file_can_be_processed_by_its_id_whatever_the_name_stands_for_now(api: Api) -> None:
    name = unique("versions", ".csv")
    first = api.upload(name, b"n\n1\n")
    api.upload(name, b"n\n1\n2\n3\n")

    by_id = api.succeeded(api.submit("cpu.process_csv", {"filename": name, "file_id": first["id"]}))
    by_name = api.succeeded(api.submit("cpu.process_csv", {"filename": name}))

    assert (by_id["rows_in"], by_name["rows_in"]) == (1, 3)


@pytest.mark.parametrize(
    "name", ["mês de março.csv", "50% + 1 & mais.csv", "日本.csv", "ç" * 190 + ".csv"]
)
def test_file_of_an_unusual_name_is_found_by_it(api: Api, name: str) -> None:
    content = f"n\n{unique('value')}\n".encode()

    uploaded = api.upload(name, content)

    assert uploaded["filename"] == name
    result = api.succeeded(api.submit("cpu.process_csv", {"filename": name}))
    assert (result["filename"], result["generated"], result["rows_in"]) == (name, False, 1)


@pytest.mark.parametrize("name", ["../v.csv", "a/b.csv", "/etc/passwd", "..", "a\\b.csv", ""])
def test_file_name_with_a_path_is_refused_and_nothing_stored(api: Api, name: str) -> None:
    content = unique("refused").encode()

    bare = api.post("/v1/files", params={"filename": name}, content=content)
    (error,) = problem(bare, 422, "invalid-request")["errors"]

    assert (error["field"], error["value"]) == ("filename", name)
    digest = hashlib.sha256(content).hexdigest()
    problem(api.get(f"/v1/files/sha256:{digest}"), 404, "file-not-found")


@pytest.mark.parametrize("name", ["../v.csv", "a/b.csv", "/etc/passwd"])
def test_form_with_a_path_for_a_file_name_is_refused(api: Api, name: str) -> None:
    answer = api.post("/v1/files", files={"file": (name, b"n\n1\n")})

    (error,) = problem(answer, 422, "invalid-request")["errors"]
    assert (error["field"], error["value"]) == ("filename", name)


def test_upload_without_a_name_says_how_to_give_one(api: Api) -> None:
    (error,) = problem(api.post("/v1/files", content=b"n\n"), 422, "invalid-request")["errors"]

    assert error["field"] == "filename"
    assert "?filename=" in error["rule"]


def test_form_without_a_file_says_what_part_is_missing(api: Api) -> None:
    answer = api.post("/v1/files", files={"document": ("v.csv", b"n\n")})

    (error,) = problem(answer, 422, "invalid-request")["errors"]
    assert error["field"] == "file"


def test_broken_form_is_a_problem(api: Api) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}

    problem(api.post("/v1/files", content=b"no form", headers=headers), 400, "malformed-body")


@pytest.mark.parametrize("file_id", ["latest", "sha256:xyz", "md5:" + "0" * 32])
def test_id_that_is_none_is_a_problem(api: Api, file_id: str) -> None:
    (error,) = problem(api.get(f"/v1/files/{file_id}"), 422, "invalid-request")["errors"]

    assert (error["field"], error["value"]) == ("file_id", file_id)


# --- replacing ---


def test_corrected_file_of_the_same_name_corrects_the_figures(api: Api) -> None:
    name, region = unique("vendas", ".csv"), unique("region")
    wrong = make_sales(200, region, seed=22)
    corrected = [replace(sale, quantity=sale.quantity + 1) for sale in wrong[:150]]

    processed(api, name, to_csv(wrong))
    before = revenue(api, region)
    processed(api, name, to_csv(corrected))
    after = revenue(api, region)

    assert before == figures_of(to_csv(wrong), region, "2025-01").revenue
    assert after == figures_of(to_csv(corrected), region, "2025-01").revenue
    assert before != after


def test_month_that_a_corrected_file_has_no_more_is_gone(api: Api) -> None:
    name, region = unique("vendas", ".csv"), unique("region")
    sales = make_sales(100, region, seed=23)

    processed(api, name, to_csv(sales))
    processed(api, name, to_csv(sale for sale in sales if sale.date.month != 2))

    assert revenue(api, region, "2025-02") == 0
    assert revenue(api, region, "2025-03") > 0


def test_same_file_processed_twice_changes_nothing(api: Api) -> None:
    name, region = unique("vendas", ".csv"), unique("region")
    content = to_csv(make_sales(100, region, seed=24))

    first = processed(api, name, content)
    expected = revenue(api, region)
    second = processed(api, name, content)

    assert (first["sales"]["changed"], second["sales"]["changed"]) == (True, False)
    assert revenue(api, region) == expected


def test_files_of_different_names_add_up(api: Api) -> None:
    region = unique("region")
    january, more = make_sales(50, region, seed=25), make_sales(70, region, seed=26)

    processed(api, unique("vendas", ".csv"), to_csv(january))
    processed(api, unique("vendas", ".csv"), to_csv(more))

    assert revenue(api, region) == figures_of(to_csv(january + more), region, "2025-01").revenue


def test_file_of_nothing_but_faults_leaves_the_figures_as_they_were(api: Api) -> None:
    name, region = unique("vendas", ".csv"), unique("region")
    content = to_csv(make_sales(40, region, seed=27))
    processed(api, name, content)
    header = content.splitlines(keepends=True)[0]

    result = processed(api, name, header + b"what is this\n" * 5)

    assert (result["rows_clean"], result["rows_quarantined"]) == (0, 5)
    assert revenue(api, region) == figures_of(content, region, "2025-01").revenue


# --- kinds of files ---


def test_gzip_is_unpacked(api: Api) -> None:
    content = to_csv(make_sales(500, unique("region"), seed=28))

    result = processed(api, unique("vendas", ".csv.gz"), gzip.compress(content))

    assert (result["rows_in"], result["rows_clean"]) == (500, 500)


def as_brazilian_excel(sales: list[Sale]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=";")
    writer.writerow(["sale_id", "date", "region", "product", "quantity", "unit_price"])
    for sale in sales:
        price = str(sale.unit_price).replace(".", ",")
        day = sale.date.strftime("%d/%m/%Y")
        writer.writerow([sale.sale_id, day, sale.region, "Açaí", sale.quantity, price])
    return text.getvalue().encode("latin-1")


def test_latin_1_with_semicolons_and_decimal_commas_gives_the_same_figures(api: Api) -> None:
    region = unique("são-joão")
    sales = make_sales(300, region, seed=29)

    result = processed(api, unique("vendas", ".csv"), as_brazilian_excel(sales))

    assert result["delimiter"] == ";"
    assert result["encoding"] in {"latin-1", "cp1252"}
    assert (result["rows_clean"], result["rows_quarantined"]) == (300, 0)
    assert revenue(api, region) == figures_of(to_csv(sales), region, "2025-01").revenue
    product = next(column for column in result["columns"] if column["name"] == "product")
    assert product["top_values"][0]["value"] == "Açaí"


def test_file_full_of_bad_lines_ends_with_all_of_them_in_quarantine(api: Api) -> None:
    job = api.process(unique("bad", ".csv"), b"a,b\n" + b"1,2,3,4\n" * 1_000)

    result = job["result"]
    assert (job["state"], result["rows_in"], result["rows_clean"]) == ("succeeded", 1_000, 0)
    assert 0 < len(result["quarantine_preview"]) <= 20
    quarantine = api.get(f"{job['links']['artifacts']}/quarantine.csv").text
    rows = list(csv.DictReader(io.StringIO(quarantine)))
    assert len(rows) == result["rows_quarantined"] == 1_000
    assert (rows[0]["line"], rows[-1]["line"]) == ("2", "1001")
    assert rows[0]["raw"] == "1,2,3,4"


def test_header_without_rows_is_a_file_of_no_rows(api: Api) -> None:
    result = processed(api, unique("header", ".csv"), b"sale_id,amount\n")

    assert result["rows_in"] == 0
    assert [column["name"] for column in result["columns"]] == ["sale_id", "amount"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\n\n \n", "empty"),
        (random.Random(1).randbytes(50_000), "binary"),  # noqa: S311 - any bytes
        (b"\x89PNG\r\n\x1a\n" + bytes(1_000), "PNG"),
        (b"PK\x03\x04" + bytes(1_000), "Excel"),
        (gzip.compress(b"a,b\n1,2\n" * 1_000)[:-20], "gzip"),
    ],
    ids=["empty", "blank", "random bytes", "image", "workbook", "half of a gzip"],
)
def test_file_that_is_no_csv_fails_its_job_with_the_reason_and_no_worker(
    api: Api, content: bytes, reason: str
) -> None:
    job = api.process(unique("no-csv", ".csv"), content)

    assert job["state"] == "failed"
    assert (job["error"]["code"], job["error"]["retryable"]) == ("job-rejected", False)
    assert reason in job["error"]["detail"]
    assert len(job["attempts"]) == 1
    alive = processed(api, unique("after", ".csv"), b"a,b\n1,2\n")
    assert alive["rows_clean"] == 1
