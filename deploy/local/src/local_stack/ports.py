"""Ports of this machine: which are free, and which somebody listens on."""

import random
import socket
from collections.abc import Mapping
from typing import Final

from local_stack.errors import StackError

# Below what the kernel hands out to outgoing connections (32768 and up on Linux): a port from
# there could be taken by anybody's connection between choosing it and listening on it.
_CANDIDATES: Final = range(20_000, 32_000)


class PortInUseError(StackError):
    """Somebody listens on a port that the stack needs; names it, and the setting."""


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nobody listens on."""
    candidates = random.sample(_CANDIDATES, k=count * 50)
    ports = []
    for port in candidates:
        if is_free(port):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError(f"no {count} free ports between {_CANDIDATES[0]} and {_CANDIDATES[-1]}")


def check_ports(ports: Mapping[str, int]) -> None:
    """Check that ports, by the setting that chooses them, are free.

    Raises:
        PortInUseError: one is not.

    """
    for setting, port in ports.items():
        if not is_free(port):
            another = next((p for p in range(port + 1, port + 100) if is_free(p)), port + 1)
            raise PortInUseError(
                f"port {port} is in use: choose another with {setting}, "
                f"for example `make up {setting}={another}`"
            )


def is_free(port: int) -> bool:
    """Return whether a server could listen on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_listening(port: int) -> bool:
    """Return whether somebody accepts connections on this port of the loopback address."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
