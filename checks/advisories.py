"""Ask OSV for known vulnerabilities of everything that uv.lock names: `make audit`.

Fails when there is one. Without a connection nothing can be asked: then it says so, as the last
thing, and fails only where CI is set, because there nobody reads it. (AUDIT_OFFLINE=1 allows it
there too.) An answer that is an error is a failure everywhere.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from typing import Final

import httpx2

IGNORED: Final[dict[str, str]] = {}
"""Advisories that do not concern us: id, and why not."""

_OSV: Final = "https://api.osv.dev/v1/query"


def main() -> int:
    """Check the lock file that the command line names and return the exit code."""
    (lock,) = map(Path, sys.argv[1:] or ["uv.lock"])
    locked = locked_packages(lock)
    url = os.environ.get("OSV_URL", _OSV)
    if why := _unreachable(url):
        _say(
            f"NOT CHECKED: known vulnerabilities of {len(locked)} locked packages. "
            f"The advisories at {url} could not be asked: {why}"
        )
        return int("CI" in os.environ and os.environ.get("AUDIT_OFFLINE") != "1")
    return _audit(locked, url)


def locked_packages(lock: Path) -> list[str]:
    """Return `name==version` of everything that comes from a registry."""
    packages = tomllib.loads(lock.read_text())["package"]
    return sorted(
        f"{package['name']}=={package['version']}"
        for package in packages
        if "registry" in package["source"]
    )


def _unreachable(url: str) -> str | None:
    """Return why there is no connection, or None if there is one."""
    try:
        httpx2.get(url, timeout=10)
    except httpx2.TransportError as exc:
        return f"{type(exc).__name__}: {exc}"
    return None


def _audit(locked: list[str], url: str) -> int:
    """Ask in rounds: a name may be locked in several versions, and pip-audit takes one of each."""
    rounds: dict[int, list[str]] = {}
    times_seen: Counter[str] = Counter()
    for package in locked:
        name = package.partition("==")[0]
        rounds.setdefault(times_seen[name], []).append(package)
        times_seen[name] += 1
    return max([_pip_audit(packages, url) for packages in rounds.values()], default=0)


def _pip_audit(packages: list[str], url: str) -> int:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(packages))
        requirements.flush()
        command = [
            *(sys.executable, "-m", "pip_audit", "--requirement", requirements.name),
            *("--disable-pip", "--no-deps", "--strict", "--progress-spinner", "off"),
            *("--vulnerability-service", "osv", "--osv-url", url),
            *(option for advisory in IGNORED for option in ("--ignore-vuln", advisory)),
        ]
        return subprocess.run(command, check=False).returncode  # noqa: S603 - our own command


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - the command's answer


if __name__ == "__main__":
    sys.exit(main())
