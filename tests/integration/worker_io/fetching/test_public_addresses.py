"""Where connections really go: names are looked up by a resolver of the test."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from twinlane_sdk.allow_lists import HostAllowList
from twinlane_sdk.errors import RejectedError, RetryableError
from worker_io.fetching.fetcher import Fetcher, FetchLimits
from worker_runtime.cancellation import JobCancellation

LIMITS = FetchLimits(timeout_seconds=5)
DEADLINE = 30.0
NEVER = JobCancellation()
CERTIFICATE = "certificate.pem"
NAME = "shop.example"
ALLOWED = HostAllowList.parse(f"{NAME}, inside.example, 127.0.0.1, [::1]")
NONE = HostAllowList()


class Httpbin(Protocol):
    url: str
    paths: list[str]


class Names:
    """Answers look-ups one after another as it was told; the last answer stays."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): list(all_) for name, all_ in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        answers = self._answers.get(host, [[host]])
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Listener:
    """Takes connections, keeps what it is first sent, and answers nothing but 200."""

    def __init__(
        self, address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._server = socket.create_server((address, port), family=family)
        self.port: int = self._server.getsockname()[1]
        self.heard: list[bytes] = []
        self.asked_for: list[str] = []
        if tls:
            tls.sni_callback = lambda _connection, name, _context: self.asked_for.append(name or "")
            self._server = tls.wrap_socket(self._server, server_side=True)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except ssl.SSLError:
                continue  # a client that went away
            except OSError:
                return
            with connection:
                self.heard.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


def fetcher(names: Names, private: HostAllowList = NONE) -> Fetcher:
    return Fetcher(ALLOWED, LIMITS, private, names)


def test_allowed_name_at_a_private_address_is_refused_and_never_connected(
    listener: Listener,
) -> None:
    names = Names(shop_example=[["127.0.0.1"]])
    with pytest.raises(
        RejectedError,
        match=r"host 'shop\.example' is at 127\.0\.0\.1, .* FETCH_PRIVATE_HOSTS must name it",
    ):
        fetcher(names).fetch(f"http://{NAME}:{listener.port}/", DEADLINE, NEVER)
    assert listener.heard == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "[::1]"])
def test_private_address_itself_is_refused_however_it_is_written(
    listener: Listener, host: str
) -> None:
    with pytest.raises(RejectedError, match="no public address"):
        Fetcher(ALLOWED, LIMITS).fetch(f"http://{host}:{listener.port}/", DEADLINE, NEVER)
    assert listener.heard == []


def test_one_private_address_among_public_ones_is_refused(listener: Listener) -> None:
    names = Names(shop_example=[["1.1.1.1", "127.0.0.1"]])
    with pytest.raises(RejectedError, match=r"at 127\.0\.0\.1, which is no public address"):
        fetcher(names).fetch(f"http://{NAME}:{listener.port}/", DEADLINE, NEVER)
    assert listener.heard == []


def test_host_that_the_setting_names_may_be_at_a_private_address(listener: Listener) -> None:
    names = Names(shop_example=[["127.0.0.1"]])
    private = HostAllowList.parse(NAME)
    url = f"http://{NAME}:{listener.port}/x"
    assert fetcher(names, private).fetch(url, DEADLINE, NEVER).status == 200
    (request,) = listener.heard
    assert request.startswith(b"GET /x HTTP/1.1\r\n")
    assert f"Host: {NAME}:{listener.port}\r\n".encode() in request


def test_setting_names_ipv6_addresses_with_their_brackets() -> None:
    listener = Listener("::1")
    url = f"http://[::1]:{listener.port}/"
    with closing(listener):
        private = HostAllowList.parse("[::1]")
        assert Fetcher(ALLOWED, LIMITS, private).fetch(url, DEADLINE, NEVER).status == 200
    assert f"Host: [::1]:{listener.port}\r\n".encode() in listener.heard[0]


def test_redirect_to_a_private_address_is_refused(httpbin: Httpbin, listener: Listener) -> None:
    names = Names(inside_example=[["127.0.0.1"]])
    private = HostAllowList.parse("127.0.0.1")
    target = f"http://inside.example:{listener.port}/"
    with pytest.raises(RejectedError, match=r"'inside\.example' is at 127\.0\.0\.1"):
        fetcher(names, private).fetch(f"{httpbin.url}/redirect-to?url={target}", DEADLINE, NEVER)
    assert httpbin.paths == ["/redirect-to"]
    assert listener.heard == []


def test_connection_goes_to_the_address_that_was_checked(listener: Listener) -> None:
    """A name that is answered otherwise when asked again (DNS rebinding) is asked once only."""
    elsewhere = Listener("127.0.0.2", listener.port)
    names = Names(shop_example=[["127.0.0.1"], ["127.0.0.2"]])
    with closing(elsewhere):
        url = f"http://{NAME}:{listener.port}/"
        fetcher(names, HostAllowList.parse(NAME)).fetch(url, DEADLINE, NEVER)
    assert names.asked == [NAME]
    assert (len(listener.heard), elsewhere.heard) == (1, [])


def https_listener(folder: Path, name: str) -> Listener:
    """Serve https with a certificate for `name`, left in `folder` for those who trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    (folder / CERTIFICATE).write_bytes(pem)
    (folder / "key.pem").write_bytes(
        pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "key.pem")
    return Listener(tls=context)


@pytest.mark.parametrize("named_in_certificate", [NAME, "other.example"])
def test_certificate_is_checked_against_the_name_and_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_in_certificate: str
) -> None:
    with closing(https_listener(tmp_path, named_in_certificate)) as listener:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / CERTIFICATE))
        shop = fetcher(Names(shop_example=[["127.0.0.1"]]), HostAllowList.parse(NAME))
        url = f"https://{NAME}:{listener.port}/"
        if named_in_certificate == NAME:
            assert shop.fetch(url, DEADLINE, NEVER).status == 200
            assert listener.asked_for == [NAME]
        else:
            with pytest.raises(RetryableError, match="certificate"):
                shop.fetch(url, DEADLINE, NEVER)
            assert listener.heard == []


def test_next_address_is_tried_when_one_does_not_answer(listener: Listener) -> None:
    names = Names(shop_example=[["127.0.0.2", "127.0.0.1"]])
    answer = fetcher(names, HostAllowList.parse(NAME)).fetch(
        f"http://{NAME}:{listener.port}/", DEADLINE, NEVER
    )
    assert answer.status == 200


def test_proxies_of_the_environment_are_not_used(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{listener.port}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{listener.port}")
    with pytest.raises(RejectedError, match="no public address"):
        fetcher(Names(shop_example=[["10.0.0.1"]])).fetch(f"http://{NAME}/", DEADLINE, NEVER)
    assert listener.heard == []


@pytest.mark.parametrize("name", ["no-such-name.invalid", f"{'a' * 64}.example"])
def test_name_without_an_address_is_retryable_and_named(name: str) -> None:
    lost = Fetcher(HostAllowList.parse(f"{name}"), LIMITS)
    with pytest.raises(RetryableError, match=f"{name} could not be looked up"):
        lost.fetch(f"http://{name}/", DEADLINE, NEVER)
