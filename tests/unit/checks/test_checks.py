"""The checks find what they are for, and say when they can't look."""

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from local_stack.ports import free_ports
from local_stack.programs import basic_env

CHECKS = Path(__file__).parents[3] / "checks"
LOCK = """
[[package]]
name = "harmless"
version = "1.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "harmless"
version = "2.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "%s"
version = "2.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "our-own"
version = "0.1.0"
source = { virtual = "." }
"""


def run(check: str, *arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CHECKS / check), *arguments],
        cwd=cwd,
        env=basic_env(**{"HOME": str(cwd)} | env),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


def track(repository: Path, name: str, content: str) -> None:
    (repository / name).write_text(content)
    subprocess.run(["git", "add", name], cwd=repository, check=True)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("key = 'AKIA" + "Q3EGRZ5TV7WX4Y6N'", "AWS Access Key"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "Private Key"),
        ("BROKER_URL=amqp://api:" + "k3Jh8sPq2@rabbitmq//", "Basic Auth Credentials"),
    ],
)
def test_planted_secret_is_found_and_not_shown(repository: Path, line: str, kind: str) -> None:
    track(repository, "settings.py", f"\n{line}\n")
    done = run("no_secrets.py", cwd=repository)
    assert (done.returncode, done.stdout) == (1, f"settings.py:2: {kind}\n")


def test_test_may_invent_a_password_but_not_hold_a_key(repository: Path) -> None:
    (repository / "tests").mkdir()
    line = "url = 'amqp://api:" + "k3Jh8sPq2@rabbitmq//'\nkey = 'AKIA" + "Q3EGRZ5TV7WX4Y6N'\n"
    track(repository, "tests/test_x.py", line)
    done = run("no_secrets.py", cwd=repository)
    assert (done.returncode, done.stdout) == (1, "tests/test_x.py:2: AWS Access Key\n")


def test_placeholders_and_files_that_git_does_not_know_are_no_secrets(repository: Path) -> None:
    track(repository, "readme.md", "amqp://user:password@host:5672/vhost\n")
    (repository / ".env").write_text("AWS_KEY=AKIA" + "Q3EGRZ5TV7WX4Y6N\n")
    done = run("no_secrets.py", cwd=repository)
    assert (done.returncode, done.stdout) == (0, "")


class Osv(BaseHTTPRequestHandler):
    """Answers as OSV does; knows one vulnerability, and breaks when asked for `broken`."""

    def do_GET(self) -> None:
        self.send_error(405)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = asked["package"]["name"]
        if name == "broken":
            self.send_error(500)
            return
        package = {"name": name, "ecosystem": "PyPI"}
        found = {"vulns": [{"id": "GHSA-test", "affected": [{"package": package, "ranges": []}]}]}
        answer = json.dumps(found if name == "vulnerable" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def osv() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Osv) as server:
        Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def audit(folder: Path, package: str, **env: str) -> subprocess.CompletedProcess[str]:
    lock = folder / "uv.lock"
    lock.write_text(LOCK % package)
    return run("advisories.py", str(lock), cwd=folder, **env)


def test_known_vulnerability_of_a_locked_package_is_a_failure(tmp_path: Path, osv: str) -> None:
    done = audit(tmp_path, "vulnerable", OSV_URL=osv)
    assert done.returncode == 1
    assert "GHSA-test" in done.stdout


def test_packages_without_a_known_vulnerability_pass(tmp_path: Path, osv: str) -> None:
    done = audit(tmp_path, "sound", OSV_URL=osv)
    assert done.returncode == 0, done.stderr
    assert "No known vulnerabilities found" in done.stderr


def test_advisories_that_answer_with_an_error_are_a_failure(tmp_path: Path, osv: str) -> None:
    assert audit(tmp_path, "broken", OSV_URL=osv).returncode != 0


@pytest.mark.parametrize(
    ("env", "code"),
    [({}, 0), ({"CI": "true"}, 1), ({"CI": "true", "AUDIT_OFFLINE": "1"}, 0)],
    ids=["at home", "in CI", "in CI without a network"],
)
def test_advisories_that_can_not_be_asked_are_said_last(
    tmp_path: Path, env: dict[str, str], code: int
) -> None:
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}/"
    done = audit(tmp_path, "sound", OSV_URL=nowhere, **env)
    assert done.returncode == code
    assert done.stderr.splitlines()[-1].startswith(
        "NOT CHECKED: known vulnerabilities of 3 locked packages."
    )
