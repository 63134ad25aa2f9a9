"""Leases on a real S3 server, whose conditional puts let one alone create an object."""

import urllib.request
from collections.abc import Iterator
from datetime import timedelta

import obstore
import pytest
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from twinlane_sdk.errors import RetryableError
from worker_io.mail.lease import held_lease

KEY = "artifacts/job-42/claims/mail"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def storage() -> Iterator[S3Store]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    # moto keeps its buckets for as long as the process lives.
    reset = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")  # noqa: S310 - local
    urllib.request.urlopen(reset).close()  # noqa: S310 - local
    bucket = urllib.request.Request(f"{endpoint}/leases", method="PUT")  # noqa: S310 - local
    urllib.request.urlopen(bucket).close()  # noqa: S310 - local
    yield S3Store(
        "leases",
        endpoint=endpoint,
        region="us-east-1",
        access_key_id="key",
        secret_access_key="secret",  # noqa: S106 - of a server of the test
        client_options={"allow_http": True},
    )
    server.stop()


def test_lease_is_held_by_one_alone_until_it_is_released(storage: S3Store) -> None:
    with (
        held_lease(storage, KEY, MINUTE),
        pytest.raises(RetryableError, match="another delivery"),
        held_lease(storage, KEY, MINUTE),
    ):
        pass
    with held_lease(storage, KEY, MINUTE):
        assert len(obstore.list(storage, KEY).collect()) == 1
    assert obstore.list(storage, KEY).collect() == []


def test_expired_lease_is_taken_over(storage: S3Store) -> None:
    obstore.put(storage, f"{KEY}/1", b"{}")
    with held_lease(storage, KEY, timedelta(0)):
        assert len(obstore.list(storage, KEY).collect()) == 2
