from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore, S3Store

from contracts.storage import (
    artifact_key,
    artifact_prefix,
    open_storage,
    upload_info_key,
    upload_key,
    upload_name_key,
)

FILE_ID = "sha256:" + "0a" * 32


def test_local_folder_is_made_and_keeps_files(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    storage = open_storage(folder.as_uri())
    assert isinstance(storage, LocalStore)
    obstore.put(storage, "uploads/content/x", b"text")
    assert (folder / "uploads" / "content" / "x").read_bytes() == b"text"


def test_folder_may_have_spaces_and_accents(tmp_path: Path) -> None:
    folder = tmp_path / "dados do mês"
    obstore.put(open_storage(folder.as_uri()), "x", b"text")
    assert (folder / "x").read_bytes() == b"text"


def test_s3_url_names_bucket_and_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "sa-east-1")
    storage = open_storage("s3://bucket/a/prefix/")
    assert isinstance(storage, S3Store)
    assert storage.prefix == "a/prefix"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/folder",
        "file://",
        "file://host/folder",
        "s3://",
        "s3:///key",
        "gs://bucket",
        "ftp://x",
    ],
)
def test_url_of_another_kind_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(ValueError, match=r"use file:///folder or s3://bucket/prefix"):
        open_storage(url)


def test_keys_of_an_upload_have_no_colon() -> None:
    # Windows and some S3 tools can't have one in a file's name.
    assert upload_key(FILE_ID) == "uploads/content/sha256-" + "0a" * 32
    assert upload_info_key(FILE_ID) == "uploads/info/sha256-" + "0a" * 32 + ".json"


@pytest.mark.parametrize(
    "filename",
    ["vendas 2025.csv", "a/b.csv", "mês.csv", "50%.csv", "a?b#c", "ç" * 200, "x" * 200],
)
def test_any_file_name_makes_one_key_component(filename: str, tmp_path: Path) -> None:
    key = upload_name_key(filename)
    assert key.count("/") == 2
    storage = open_storage(tmp_path.as_uri())
    obstore.put(storage, key, b"{}")
    (found,) = obstore.list(storage).collect()
    assert found["path"] == key


def test_different_names_have_different_keys() -> None:
    names = ["a b", "a%20b", "A b", "a+b", "a.b", "a.b.json", "ç" * 200, "ç" * 199 + "c"]
    assert len({upload_name_key(name) for name in names}) == len(names)


def test_artifacts_of_a_job_are_below_its_prefix() -> None:
    assert artifact_key("job-42", "profile.json") == f"{artifact_prefix('job-42')}/profile.json"
