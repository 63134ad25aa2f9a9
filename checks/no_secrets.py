"""Look for secrets in the files that git knows: part of `make check`."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import default_settings

ALLOWED: Final = {
    "password",  # the word itself, where an address is described
}
"""What looks like a secret and is none."""

_MADE_UP_IN_TESTS: Final = {"Basic Auth Credentials", "Secret Keyword"}
"""Kinds that go by the word beside them. Tests are full of invented passwords, which are none."""


def main() -> int:
    """Print where secrets are, never what they are, and return the exit code."""
    found = list(find_secrets())
    print(*found, sep="\n", end="\n" if found else "")  # noqa: T201 - the command's answer
    return int(bool(found))


def find_secrets() -> Iterator[str]:
    """Yield `file:line: kind` of every secret in a tracked file of the working directory."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - found on PATH on purpose
        capture_output=True,
        text=True,
        check=True,
    )
    secrets = SecretsCollection()
    with default_settings():
        secrets.scan_files(*filter(None, listed.stdout.split("\0")))
    for name, secret in secrets:
        made_up = name.startswith("tests/") and secret.type in _MADE_UP_IN_TESTS
        if not made_up and secret.secret_value not in ALLOWED:
            yield f"{name}:{secret.line_number}: {secret.type}"


if __name__ == "__main__":
    sys.exit(main())
