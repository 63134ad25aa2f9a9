"""API keys: who may call, and for what. `python -m api.auth.api_keys NAME SCOPE…` makes a new one.

A key is 256 random bits, so nobody finds it by trying what has its plain SHA-256: there is nothing
for a slow password hash to protect.
"""

import argparse
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final, TypeAlias

_PREFIX: Final = "twl_"  # lets people, and scanners for leaked secrets, see what it is
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
"""Shorter than a key or a digest, so that one in the wrong place is never taken for a name."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FORM: Final = "name:scope+scope:sha256hex"


class Scope(StrEnum):
    """What a key may be used for."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; not the key."""

    name: str
    scopes: frozenset[Scope]

    def allows(self, scope: Scope) -> bool:
        """Return whether the key is good for a scope; admin includes the others."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


KeysByDigest: TypeAlias = Mapping[bytes, ApiKey]


def parse_keys(text: str) -> KeysByDigest:
    """Read a comma-separated list of `name:scope+scope:sha256hex`.

    Two keys may share a name, so that one can be replaced without a gap.

    Raises:
        ValueError: an entry is malformed; says which, by name or place, and repeats no secret.

    """
    keys: dict[bytes, ApiKey] = {}
    entries = [entry.strip() for entry in text.split(",")]
    for number, entry in enumerate(entries, start=1):
        if entry:
            digest, key = _parse_entry(entry, number)
            if digest in keys:
                raise ValueError(f"entry {number} ({key.name}) repeats the key of another entry")
            keys[digest] = key
    return keys


def find_key(keys: KeysByDigest, presented: bytes) -> ApiKey | None:
    """Return what is known of a key, or None.

    Looked up by its digest: how long that takes says nothing of the keys that there are.
    """
    return keys.get(sha256(presented).digest())


def _parse_entry(entry: str, number: int) -> tuple[bytes, ApiKey]:
    name, _, rest = entry.partition(":")
    scopes, _, digest = rest.partition(":")
    if not _NAME.fullmatch(name) or not rest:
        raise ValueError(f"entry {number} is not {_FORM}, with a name of 1 to 40 letters or digits")
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"entry {number} ({name}) does not end with 64 lower-case hex digits")
    try:
        return bytes.fromhex(digest), ApiKey(name, frozenset(map(Scope, scopes.split("+"))))
    except ValueError:
        rule = f"scopes joined by '+', of: {', '.join(Scope)}"
        raise ValueError(f"entry {number} ({name}) needs {rule}") from None


def main() -> None:
    """Make a key and print it, once, with its entry for API_KEYS."""
    parser = argparse.ArgumentParser(
        prog="python -m api.auth.api_keys", description="Make an API key."
    )
    parser.add_argument("name", help="who will use it: up to 40 letters, digits, '.', '_' and '-'")
    parser.add_argument("scopes", nargs="+", choices=[str(scope) for scope in Scope])
    arguments = parser.parse_args()
    if not _NAME.fullmatch(arguments.name):
        parser.error(f"the name is no 1 to 40 letters, digits, '.', '_' and '-': {arguments.name}")
    key = _PREFIX + secrets.token_urlsafe(32)
    digest = sha256(key.encode()).hexdigest()
    scopes = "+".join(dict.fromkeys(arguments.scopes))
    print("The key, shown this once. Send it as `Authorization: Bearer …`:")  # noqa: T201 - the command's answer
    print(f"  {key}")  # noqa: T201
    print("Its entry for API_KEYS (comma-separated):")  # noqa: T201
    print(f"  {arguments.name}:{scopes}:{digest}")  # noqa: T201


if __name__ == "__main__":
    main()
