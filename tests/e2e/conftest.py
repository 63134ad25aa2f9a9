"""A whole stack: the one that TWINLANE_URL names, or a private one for the session.

A running stack is described by TWINLANE_URL (the API), TWINLANE_API_KEY (if it has keys, one with
the scope admin), TWINLANE_FLOWER_URL, TWINLANE_FLOWER_AUTH (`user:password`), TWINLANE_MAIL
(maildev's URL or a Maildir) and TWINLANE_HTTPBIN_URL (as its workers reach it).
"""

import mailbox
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Final

import httpx2
import pytest

from e2e.client import Api
from e2e.flower import Flower
from local_stack.ports import free_ports
from local_stack.programs import ChildProcess, Program
from local_stack.stack_folder import read_state
from servers import use_docker

_ROOT: Final = Path(__file__).parents[2]
_FLOWER_AUTH: Final = "twinlane:twinlane"
_BUILD_SECONDS: Final = 1_200
_CHOICES: Final = {"SUM_DELAY_SECONDS": "1", "REPORT_ALLOWED_RECIPIENTS": "@empresa.com"}
_PORTS: Final = (
    "API_PORT",
    "FLOWER_PORT",
    "HTTPBIN_PORT",
    "MAIL_PORT",
    "RABBITMQ_MANAGEMENT_PORT",
)


@dataclass(frozen=True)
class Stack:
    """Where a running stack is."""

    api_url: str
    flower_url: str
    flower_auth: tuple[str, str] = field(repr=False)
    mail: str
    """URL of maildev, or a Maildir."""
    httpbin_url: str
    """As workers reach it."""

    def mail_to(self, address: str) -> list[EmailMessage]:
        """Return the mails that were delivered to this address."""
        read = _maildev_mails if self.mail.startswith("http") else _maildir_mails
        return [mail for recipients, mail in read(self.mail) if address in recipients]


def _maildev_mails(url: str) -> Iterator[tuple[list[str], EmailMessage]]:
    with httpx2.Client(base_url=url, timeout=30) as api:
        for entry in api.get("/email").raise_for_status().json():
            source = api.get(f"/email/{entry['id']}/source").raise_for_status().content
            recipients = [to["address"] for to in entry["envelope"]["to"]]
            yield recipients, message_from_bytes(source, policy=policy.default)


def _maildir_mails(folder: str) -> Iterator[tuple[list[str], EmailMessage]]:
    box = mailbox.Maildir(folder, create=False)
    for key in box.iterkeys():
        mail = message_from_bytes(box.get_bytes(key), policy=policy.default)
        yield mail["X-RcptTo"].split(", "), mail


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test waits for the stack; with Docker it may have to be built first."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(_BUILD_SECONDS), append=False)
            _put_operation_into_id(item)


def _put_operation_into_id(item: pytest.Item) -> None:
    """Give each test that Schemathesis makes an id of its own; since pytest 9.2 all have one."""
    operation = getattr(item, "operation_label", None)
    if operation:
        item._id = item._id.with_params(operation)  # noqa: SLF001 - the name has it, the id not


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if "TWINLANE_URL" in os.environ:
        yield _given_stack()
        return
    ports = dict(zip(_PORTS, map(str, free_ports(len(_PORTS))), strict=True))
    environment = os.environ | _CHOICES | ports | {"FLOWER_BASIC_AUTH": _FLOWER_AUTH}
    folder = tmp_path_factory.mktemp("stack")
    started = _containers(environment) if use_docker() else _processes(environment, folder)
    with started as running:
        yield running


@pytest.fixture(scope="session")
def httpbin(stack: Stack) -> str:
    """Base URL of the stack's httpbin, as workers reach it."""
    return stack.httpbin_url


@pytest.fixture(scope="session")
def api(stack: Stack) -> Iterator[Api]:
    with Api(stack.api_url) as client:
        yield client


@pytest.fixture(scope="session")
def flower(stack: Stack) -> Flower:
    return Flower(stack.flower_url, stack.flower_auth)


def _given_stack() -> Stack:
    user, _, password = os.environ.get("TWINLANE_FLOWER_AUTH", _FLOWER_AUTH).partition(":")
    return Stack(
        api_url=os.environ["TWINLANE_URL"].rstrip("/"),
        flower_url=os.environ.get("TWINLANE_FLOWER_URL", "http://localhost:5555"),
        flower_auth=(user, password),
        mail=os.environ.get("TWINLANE_MAIL", "http://localhost:1080"),
        httpbin_url=os.environ.get("TWINLANE_HTTPBIN_URL", "http://httpbin:8080"),
    )


def _private_stack(environment: dict[str, str], mail: str, httpbin_url: str) -> Stack:
    user, _, password = _FLOWER_AUTH.partition(":")
    return Stack(
        api_url=f"http://127.0.0.1:{environment['API_PORT']}",
        flower_url=f"http://127.0.0.1:{environment['FLOWER_PORT']}",
        flower_auth=(user, password),
        mail=mail,
        httpbin_url=httpbin_url,
    )


@contextmanager
def _processes(environment: dict[str, str], folder: Path) -> Iterator[Stack]:
    data = folder / "data"
    supervisor = Program(
        name="stack",
        argv=[
            *(sys.executable, "-m", "local_stack", "run", "--folder", str(data)),
            *("--env-file", os.devnull),  # a developer's own choices are not what is tested
        ],
        env=environment,
        cwd=_ROOT,
        is_ready=lambda: read_state(data) is not None,
        ready_within_seconds=240,
        stop_within_seconds=120,
    )
    child = ChildProcess(supervisor, folder / "stack.log")
    try:
        child.wait_until_ready()
        httpbin_url = f"http://127.0.0.1:{environment['HTTPBIN_PORT']}"
        yield _private_stack(environment, str(data / "mail"), httpbin_url)
    finally:
        child.stop()


@contextmanager
def _containers(environment: dict[str, str]) -> Iterator[Stack]:
    project = f"twinlane-test-{secrets.token_hex(4)}"

    def compose(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "compose", "-p", project, "--env-file", os.devnull, *arguments],
            cwd=_ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    try:
        done = compose("--progress", "plain", "up", "--build", "--wait")
        if done.returncode != 0:
            logs = compose("logs", "--no-color", "--tail", "40").stdout
            pytest.fail(f"the stack did not start:\n{done.stdout[-4000:]}\n{logs}", pytrace=False)
        mail = f"http://127.0.0.1:{environment['MAIL_PORT']}"
        yield _private_stack(environment, mail, "http://httpbin:8080")
    finally:
        compose("down", "--volumes", "--remove-orphans", "--rmi", "local")
