"""Connects to public addresses only, so that an allowed name cannot lead inside (SSRF).

A name is looked up once and the connection goes to exactly the address that was checked: a second
look-up could give another one (DNS rebinding). TLS and the Host header still get the name.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Final

from twinlane_sdk.allow_lists import HostAllowList
from twinlane_sdk.errors import RejectedError

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""From host and port to IP addresses, best first. Raises OSError if there are none."""

_NEXT_ADDRESS_AFTER_SECONDS: Final = 2.0

# https://www.iana.org/assignments/iana-ipv6-unicast-address-assignments: all that is assigned.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
# What `is_global` takes for public, at least in the older Pythons that this runs on.
_NOT_PUBLIC: Final = (
    IPv4Network("168.63.129.16/32"),  # Azure's platform: metadata, agents, DNS
    IPv4Network("192.0.0.0/24"),  # RFC 6890; also Oracle's metadata
    IPv4Network("192.88.99.0/24"),  # RFC 7526: relays of the former 6to4
    IPv6Network("3fff::/20"),  # RFC 9637: documentation
)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class PublicConnector:
    """Opens connections to public addresses, and to any address of the hosts on `private_hosts`.

    Without a `resolve`, the system's resolver is used.
    """

    def __init__(self, private_hosts: HostAllowList, resolve: Resolve | None = None) -> None:
        self._private_hosts = private_hosts
        self._resolve = resolve or _resolve
        self._lookups: dict[tuple[str, int], asyncio.Future[list[str]]] = {}
        """Those in flight."""

    async def connect(self, host: str, port: int, tls: ssl.SSLContext | None) -> Streams:
        """Connect to the first of the host's addresses that answers.

        Raises:
            RejectedError: one of them is not public, so none is called.
            OSError: there is none, or none answers.

        """
        name = host if tls else None
        *others, last = await self._addresses(host, port)
        for address in others:
            try:
                async with asyncio.timeout(_NEXT_ADDRESS_AFTER_SECONDS):
                    return await asyncio.open_connection(
                        address, port, ssl=tls, server_hostname=name
                    )
            except OSError:  # TimeoutError is one
                continue
        return await asyncio.open_connection(last, port, ssl=tls, server_hostname=name)

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            addresses = list(dict.fromkeys(await self._look_up(host, port)))
        except (OSError, UnicodeError) as exc:  # UnicodeError: a label that no DNS can have
            raise OSError(f"{host} could not be looked up: {exc}") from exc
        if not addresses:
            raise OSError(f"{host} has no address")
        if not self._private_hosts.allows(f"http://{_in_url(host)}/"):
            for address in addresses:
                _refuse_private(host, address)
        return addresses

    async def _look_up(self, host: str, port: int) -> list[str]:
        """Look a name up; calls that ask for it at the same time share the look-up.

        Each one of the system's takes a thread, and a thousand calls may go to one host.
        """
        lookup = self._lookups.get((host, port))
        if lookup is None:
            lookup = asyncio.ensure_future(self._resolve(host, port))
            self._lookups[host, port] = lookup
            lookup.add_done_callback(lambda done: self._finish((host, port), done))
        return await asyncio.shield(lookup)

    def _finish(self, name: tuple[str, int], lookup: "asyncio.Future[list[str]]") -> None:
        del self._lookups[name]
        if not lookup.cancelled():
            lookup.exception()  # retrieved here, or asyncio complains when every call was cancelled


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is a public one of the internet, by IANA's registries.

    An IPv6 address that stands for an IPv4 one (mapped, NAT64, 6to4) is as public as that one.
    """
    if isinstance(address, IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return is_public(inner)
        if address not in _GLOBAL_UNICAST:
            return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _refuse_private(host: str, address: str) -> None:
    if not is_public(ip_address(address)):
        raise RejectedError(
            f"host {host!r} is at {address}, which is no public address; if it is meant to be"
            " called, the io worker's FETCH_PRIVATE_HOSTS must name it"
        )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
