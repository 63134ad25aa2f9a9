"""Each package in an environment of its own: a shared one hides undeclared dependencies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local_stack.programs import basic_env

ROOT = Path(__file__).parents[2]

PROGRAM = """
import importlib, importlib.metadata, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
    importlib.import_module(module.name)
print(*sorted(found.name for found in importlib.metadata.distributions()))
"""

WORK = {"celery", "fastapi", "obstore", "redis", "twinlane-contracts", "twinlane-worker-runtime"}
WITHOUT = {
    "sdk": {*WORK, "pydantic-settings", "twinlane-tasks"},
    "tasks": WORK,
    "contracts": {"twinlane-api", "twinlane-tasks", "twinlane-worker-io", "fastapi", "duckdb"},
    "worker-runtime": {"twinlane-api", "twinlane-tasks", "fastapi", "duckdb"},
    "api": {
        "twinlane-beat",
        "twinlane-worker-runtime",
        "twinlane-worker-io",
        "twinlane-worker-cpu",
        "duckdb",
        "matplotlib",
    },
    "beat": {
        "twinlane-api",
        "twinlane-worker-runtime",
        "twinlane-worker-io",
        "twinlane-worker-cpu",
        "fastapi",
        "duckdb",
    },
    "worker-io": {"twinlane-api", "twinlane-worker-cpu", "fastapi", "duckdb"},
    "worker-cpu": {"twinlane-api", "twinlane-worker-io", "fastapi", "uvicorn"},
    "local": {"testcontainers"},
}


def find_uv() -> str:
    """Return the uv that UV names, that `make` has installed, or that is on PATH."""
    installed = ROOT / ".local" / "tools" / "bin" / "uv"
    candidates = [os.environ.get("UV"), str(installed), shutil.which("uv")]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return candidate
    raise FileNotFoundError("no uv: run the tests with `make test`, or set UV to its path")


def run_alone(service: str) -> subprocess.CompletedProcess[str]:
    """Import every module of a service where nothing but its own dependencies is installed."""
    uv = [find_uv(), "run", "--project", str(ROOT), "--package", f"twinlane-{service}"]
    options = ["--isolated", "--no-dev", "--frozen", "--quiet", "--python", sys.executable]
    module = {"sdk": "twinlane_sdk", "tasks": "twinlane_tasks", "local": "local_stack"}
    program = ["python", "-I", "-c", PROGRAM, module.get(service, service.replace("-", "_"))]
    configured = {name: value for name, value in os.environ.items() if name.startswith("UV_")}
    env = basic_env(**configured)

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*uv, *options, *more, *program],
            env=env,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    # Everything is in uv's cache if uv has made the environment that the tests run in.
    done = run("--offline")
    return done if done.returncode == 0 else run()


@pytest.mark.parametrize("service", WITHOUT)
def test_package_installs_and_imports_alone(service: str) -> None:
    done = run_alone(service)
    assert done.returncode == 0, done.stderr
    installed = set(done.stdout.split())
    assert f"twinlane-{service}" in installed
    assert not installed & WITHOUT[service]
