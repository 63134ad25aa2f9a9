"""Whom the workers may call and write to. The API asks at submission, the worker again at run time.

Both must come to the same answer, and the worker must call exactly the host that was checked:
that is why `HostAllowList.admit` returns the address in its one canonical spelling.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, Self, TypeAlias

from pydantic import AfterValidator, HttpUrl, TypeAdapter, ValidationError, validate_email
from pydantic_core import PydanticCustomError

from twinlane_sdk.errors import RejectedError

_http_url: Final = TypeAdapter(HttpUrl)
_ANY_SUBDOMAIN: Final = "*."
_SHOWN_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class HostAllowList:
    """Hosts that may be called; an empty list allows none.

    An entry is a host (`httpbin.org`, `127.0.0.1`, `[::1]`) or `*.example.com` for every subdomain
    of it, but not itself. Ports are not compared. What a name resolves to is not looked at here.
    """

    hosts: frozenset[str] = frozenset()
    parents: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a comma-separated list.

        Raises:
            ValueError: an entry is neither a host nor `*.` and a host.

        """
        entries = _entries(text)
        return cls(
            hosts=frozenset(_host_entry(e) for e in entries if not e.startswith(_ANY_SUBDOMAIN)),
            parents=frozenset(
                _host_entry(e.removeprefix(_ANY_SUBDOMAIN))
                for e in entries
                if e.startswith(_ANY_SUBDOMAIN)
            ),
        )

    def allows(self, url: str) -> bool:
        """Return whether an address may be called."""
        try:
            self.admit(url)
        except RejectedError:
            return False
        return True

    def admit(self, url: str) -> str:
        """Return the address as it is to be called: canonical, on an allowed host.

        Raises:
            RejectedError: it is no http or https address, has a user in it, or is elsewhere.

        """
        try:
            address = _http_url.validate_python(url)
        except ValidationError:
            # `from None`, as pydantic's error repeats the whole address.
            raise RejectedError(f"{_shown(url)!r} is not an http or https address") from None
        if address.username is not None or address.password is not None:
            raise RejectedError("an address with a user or password in it is not called")
        host = _bare(address)
        if not self._has(host):
            raise RejectedError(f"host {host!r} is not on the list of allowed hosts")
        return str(address)

    def _has(self, host: str) -> bool:
        return host in self.hosts or any(host.endswith(f".{parent}") for parent in self.parents)


@dataclass(frozen=True, slots=True)
class RecipientAllowList:
    """Who may get mail; an empty list allows nobody.

    An entry is an address (`chefe@example.org`) or `@empresa.com` for every address of that domain,
    but none of its subdomains. Case is not compared.
    """

    addresses: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a comma-separated list.

        Raises:
            ValueError: an entry is neither an address nor `@` and a domain.

        """
        entries = _entries(text)
        return cls(
            addresses=frozenset(_address_entry(e) for e in entries if not e.startswith("@")),
            domains=frozenset(
                _domain(_address_entry(f"anybody{e}")) for e in entries if e.startswith("@")
            ),
        )

    def allows(self, address: str) -> bool:
        """Return whether an address may get mail."""
        try:
            canonical = _address(address)
        except PydanticCustomError:
            return False
        return canonical in self.addresses or _domain(canonical) in self.domains

    def check(self, address: str) -> None:
        """Refuse an address that may not get mail.

        Raises:
            RejectedError: it is not on the list.

        """
        if not self.allows(address):
            raise RejectedError(f"recipient {address!r} is not on the list of allowed recipients")


def _readable_by(parse: Callable[[str], object]) -> AfterValidator:
    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


HostList: TypeAlias = Annotated[str, _readable_by(HostAllowList.parse)]
"""A setting that HostAllowList can read."""
RecipientList: TypeAlias = Annotated[str, _readable_by(RecipientAllowList.parse)]
"""A setting that RecipientAllowList can read."""


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def _shown(url: str) -> str:
    """Shorten an address that can't be taken apart, and leave out where a password could be."""
    _, at, rest = url.rpartition("@")
    shown = f"***@{rest}" if at else url
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}…"


def _bare(address: HttpUrl) -> str:
    # The parser has lower-cased the host and turned it to its IDNA form already.
    return (address.host or "").removesuffix(".")


def _host_entry(entry: str) -> str:
    refusal = f"allow-list entry {entry!r} is not a host, or '*.' and a host"
    try:
        address = _http_url.validate_python(f"http://{entry}/")
    except ValidationError as exc:
        raise ValueError(refusal) from exc
    # The parser is lenient; what it took for a port, a user or a path is no part of a host.
    if "*" in entry or set(entry) & set("/@?#\\") or entry.rstrip("0123456789").endswith("]:"):
        raise ValueError(refusal)
    if ":" in entry and not entry.startswith("["):
        raise ValueError(f"{refusal}; ports are not compared")
    return _bare(address)


def _address(text: str) -> str:
    return validate_email(text)[1].casefold()


def _address_entry(entry: str) -> str:
    try:
        return _address(entry)
    except PydanticCustomError as exc:
        raise ValueError(
            f"allow-list entry {entry.removeprefix('anybody')!r} is not an address, "
            "or '@' and a domain"
        ) from exc


def _domain(address: str) -> str:
    return address.rpartition("@")[2]
