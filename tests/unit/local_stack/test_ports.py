"""Which ports are free, and how one in use is answered."""

import socket
from collections.abc import Iterator

import pytest

from local_stack.ports import PortInUseError, check_ports, free_ports, is_free, is_listening


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", free_ports(1)[0])) as server:
        yield server.getsockname()[1]


def test_a_port_in_use_is_named_with_its_setting_and_a_free_one(taken: int) -> None:
    with pytest.raises(PortInUseError, match=rf"port {taken} is in use.*make up API_PORT=\d+"):
        check_ports({"API_PORT": taken})


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(10)
    assert len(set(ports)) == 10
    assert all(map(is_free, ports))
    assert not any(map(is_listening, ports))


def test_a_port_with_a_listener_is_not_free(taken: int) -> None:
    assert is_listening(taken)
    assert not is_free(taken)
