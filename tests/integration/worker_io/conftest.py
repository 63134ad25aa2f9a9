import asyncio
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import TYPE_CHECKING, Any, Self

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from httpbin import app as httpbin_app  # type: ignore[import-untyped]  # has no types
from pydantic import SecretStr
from werkzeug.serving import make_server

from contracts.settings import SharedSettings
from twinlane_sdk.task_spec import TaskSpec
from twinlane_tasks.catalogue import bundled_tasks
from worker_runtime.app import create_worker_app
from worker_runtime.cancellation import JobCancellation
from worker_runtime.job import RunningJob

if TYPE_CHECKING:  # typeshed's, not there at run time
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Httpbin:
    """A real httpbin that keeps the paths of its requests."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._server = make_server("127.0.0.1", 0, self._called, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _called(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        self.paths.append(environ["PATH_INFO"])
        answer: Iterable[bytes] = httpbin_app(environ, start_response)
        return answer


class Inbox:
    """A real SMTP server that keeps its mails; its replies can be set."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.reply_to_recipient = "250 OK"
        self.reply_to_mail = "250 OK"
        self.hangs_up_after_mail = False
        self.reply_to_login = "235 OK"
        self.on_mail: Callable[[], object] = lambda: None
        self.port = _free_port()  # the controller connects to its own port, so 0 won't do
        self._controller = Controller(
            self, hostname="127.0.0.1", port=self.port, auth_require_tls=False
        )

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: object
    ) -> str:
        envelope.rcpt_tos.append(address)
        self.recipients.append(address)
        return self.reply_to_recipient

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        await asyncio.to_thread(self.on_mail)
        if self.reply_to_mail.startswith("250"):
            content = envelope.content
            assert isinstance(content, bytes)
            mail = message_from_bytes(content, policy=default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
        return self.reply_to_mail

    async def handle_AUTH(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, _envelope: Envelope, _args: list[str]
    ) -> str:
        return self.reply_to_login

    async def handle_QUIT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, _session: Session, _envelope: Envelope
    ) -> str:
        if self.hangs_up_after_mail:
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        return "221 Bye"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def httpbin_server() -> Iterator[Httpbin]:
    with Httpbin() as server:
        yield server


@pytest.fixture
def httpbin(httpbin_server: Httpbin) -> Httpbin:
    httpbin_server.paths.clear()
    return httpbin_server


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox() as inbox:
        yield inbox


@pytest.fixture
def job_of(result_url: str) -> Callable[..., RunningJob]:
    """A running task's Job."""
    nowhere = SecretStr("memory://")
    app = create_worker_app(
        SharedSettings(broker_url=nowhere, result_url=SecretStr(result_url)), bundled_tasks()
    )

    def nothing(_task: object) -> None:
        """Stand for the body, which the tests call themselves."""

    def make(
        spec: TaskSpec[Any, Any], earlier: object = None, job_id: str = "job-42"
    ) -> RunningJob:
        task = app.task(name=spec.name, bind=True, shared=False)(nothing)
        task.push_request(id=job_id)
        return RunningJob(task, spec, earlier, JobCancellation())

    return make
