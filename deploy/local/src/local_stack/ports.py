"""Ports of this machine: which are free, and which somebody listens on."""

import random
import socket
from typing import Final

# Below what the kernel hands out to outgoing connections (32768 and up on Linux): a port from
# there could be taken by anybody's connection between choosing it and listening on it.
_CANDIDATES: Final = range(20_000, 32_000)


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


def is_free(port: int) -> bool:
    """Say whether a server could listen on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_listening(port: int) -> bool:
    """Say whether somebody accepts connections on this port of the loopback address."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
