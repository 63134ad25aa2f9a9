"""The sales dataset on a real S3 server: conditional puts, downloads, imports at once."""

import hashlib
import multiprocessing
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import obstore
import pytest
from moto.server import ThreadedMotoServer
from obstore.exceptions import AlreadyExistsError

from contracts.storage import open_storage, upload_key
from unit.worker_cpu.cpu_lane import CpuLane
from unit.worker_cpu.processes import IMPORTS_EACH, import_repeatedly
from worker_cpu.sales.dataset import SalesDataset
from worker_cpu.settings import WorkerCpuSettings
from worker_cpu.tasks import CpuTasks

URL = "s3://twinlane/some/prefix"


@pytest.fixture(autouse=True)
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    monkeypatch.setenv("AWS_ENDPOINT", endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    # moto keeps its buckets for as long as the process lives.
    reset = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")  # noqa: S310 - local
    urllib.request.urlopen(reset).close()  # noqa: S310 - local
    bucket = urllib.request.Request(f"{endpoint}/twinlane", method="PUT")  # noqa: S310 - local
    with urllib.request.urlopen(bucket):  # noqa: S310 - local
        yield
    server.stop()


@pytest.fixture
def lane(tmp_path: Path) -> CpuLane:
    settings = WorkerCpuSettings.model_validate(
        {
            "broker_url": "amqp://unused",
            "result_url": "redis://unused",
            "storage_url": URL,
            "scratch_folder": tmp_path / "scratch",
        }
    )
    storage = open_storage(URL)
    return CpuLane(CpuTasks(settings, storage), storage, tmp_path)


def test_second_creation_of_an_object_is_refused() -> None:
    storage = open_storage(URL)
    obstore.put(storage, "a/b", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(storage, "a/b", b"second", mode="create")
    assert bytes(obstore.get(storage, "a/b").bytes()) == b"first"


def test_sales_are_imported_aggregated_and_reported(lane: CpuLane) -> None:
    header = "sale_id,date,region,product,quantity,unit_price\n"
    first = lane.process(header + "1,2025-01-01,sul,a,3,0.10\n2,2025-02-01,sul,a,1,5.00\n")
    again = lane.process(header + "1,2025-01-01,sul,a,3,0.10\n2,2025-02-01,sul,a,1,5.00\n")
    assert first.sales is not None
    assert again.sales is not None
    assert (first.sales.changed, again.sales.changed) == (True, False)
    assert lane.aggregate(region="sul", month="2025-01").figures.revenue == Decimal("0.30")
    result = lane.report(report_type="vendas_mensal")
    assert result.month == "2025-02"
    assert "R$ 5,00" in lane.artifact(result.text, "report").decode()


def test_large_upload_is_streamed(lane: CpuLane) -> None:
    content = b"n,t\n" + b"".join(b"%d,some text\n" % number for number in range(500_000))
    file_id = f"sha256:{hashlib.sha256(content).hexdigest()}"
    obstore.put(lane.storage, upload_key(file_id), content)
    result = lane.process(content)
    assert (result.rows_in, result.rows_clean) == (500_000, 500_000)


def test_imports_of_several_processes_at_once_are_all_kept(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=import_repeatedly, args=(URL, str(tmp_path), source))
        for source in ("a", "b", "c")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    snapshot = SalesDataset(open_storage(URL)).newest()
    assert snapshot.number == 3 * IMPORTS_EACH
    assert {parts["2025-01"].rows for parts in snapshot.sources.values()} == {IMPORTS_EACH - 1}
