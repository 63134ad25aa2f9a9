import gzip
import random

import pytest

from contracts.storage import open_storage
from twinlane_sdk.errors import RejectedError
from twinlane_tasks.csv import ProcessCsvArgs
from unit.worker_cpu.cpu_lane import CpuLane, counts
from worker_cpu.settings import WorkerCpuSettings
from worker_cpu.tasks import CpuTasks

NOISE = random.Random(1).randbytes(5000)  # noqa: S311 - test data


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


def test_upload_that_expired_is_rejected_with_advice(lane: CpuLane) -> None:
    args = ProcessCsvArgs(file_id="sha256:" + "0" * 64)
    with pytest.raises(RejectedError, match="upload it again"):
        lane.tasks.process_csv(args, lane.job("job"))


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
