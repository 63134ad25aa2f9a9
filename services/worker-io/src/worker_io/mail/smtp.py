"""Sends mails by SMTP."""

import base64
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Final

from twinlane_sdk.errors import RejectedError, RetryableError

_FIRST_PERMANENT: Final = 500

Send = Callable[[EmailMessage], None]


@dataclass(frozen=True, slots=True)
class MailServer:
    """A mail server, how to log in there, and how long it may take.

    `timeout_seconds` is that of connecting and of each reply; `send_timeout_seconds` that of the
    mail as a whole, once the server is ready for it. The second is long because a server that
    checks a mail replies late, and a mail that is given up then may arrive all the same
    (RFC 5321, section 4.5.3.2.6).
    """

    host: str
    port: int
    timeout_seconds: float
    send_timeout_seconds: float = 60
    username: str | None = None
    password: str | None = None
    starttls: bool = False


@contextmanager
def smtp_session(server: MailServer) -> Iterator[Send]:
    """Connect and log in; yield what sends a mail.

    It returns once the server has taken responsibility for the mail, and has ended after
    `send_timeout_seconds` in any case.

    Raises:
        RejectedError: the server will never take it: 5xx to its recipient or its content.
        RetryableError: anything else, also a server that is wrongly set up: it can be put right.

    """
    with _errors_translated(server):
        connection = _connect(server)

    def send(mail: EmailMessage) -> None:
        with _errors_translated(server), _time_limit(connection, server.send_timeout_seconds):
            connection.send_message(mail)

    try:
        yield send
    finally:
        _quit(connection)


def _connect(server: MailServer) -> smtplib.SMTP:
    connection = smtplib.SMTP(
        server.host,
        server.port,
        timeout=server.timeout_seconds,
        # smtplib's default asks the DNS for a full name, without any timeout.
        local_hostname=socket.gethostname(),
    )
    try:
        if server.starttls:
            connection.starttls(context=ssl.create_default_context())
        if server.username is not None:
            _log_in(connection, server, server.username, server.password or "")
    except BaseException:
        connection.close()
        raise
    return connection


def _log_in(connection: smtplib.SMTP, server: MailServer, username: str, password: str) -> None:
    # `from None`: the original errors would be logged and stored as well, and a server may repeat
    # what it was sent, or Python what it could not encode.
    try:
        connection.login(username, password)
    except smtplib.SMTPResponseException as exc:
        reply = exc.smtp_error if isinstance(exc.smtp_error, bytes) else exc.smtp_error.encode()
        text = _without(reply.decode(errors="replace"), username, password)
        raise RetryableError(
            f"mail server {server.host}:{server.port} refused the login: {exc.smtp_code} {text}"
        ) from None
    except ValueError:
        raise RetryableError(
            f"mail server {server.host}:{server.port}: SMTP_USERNAME and SMTP_PASSWORD must be"
            " ASCII to log in"
        ) from None


def _without(text: str, username: str, password: str) -> str:
    plain = (password, f"\0{username}\0{password}")
    encoded = (base64.b64encode(secret.encode()).decode() for secret in plain)
    for secret in (*plain, *encoded):
        text = text.replace(secret, "***") if secret else text
    return text


@contextmanager
def _errors_translated(server: MailServer) -> Iterator[None]:
    """Make errors of SMTP and of the network those that say whether the job is retried."""
    try:
        yield
    except smtplib.SMTPRecipientsRefused as exc:
        recipient, (code, reply) = next(iter(exc.recipients.items()))
        raise _refusal(f"{recipient} was refused", code, reply) from exc
    except smtplib.SMTPDataError as exc:
        raise _refusal("the mail was refused", exc.smtp_code, exc.smtp_error) from exc
    except OSError as exc:  # SMTPException is one
        reason = str(exc) or type(exc).__name__
        raise RetryableError(f"mail server {server.host}:{server.port}: {reason}") from exc


@contextmanager
def _time_limit(connection: smtplib.SMTP, seconds: float) -> Iterator[None]:
    # A timeout of the socket alone would start again with every byte that arrives.
    sock = connection.sock
    if sock is None:
        raise smtplib.SMTPServerDisconnected("the connection was closed")
    sock.settimeout(seconds)
    timer = threading.Timer(seconds, _shut_down, [sock])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _quit(connection: smtplib.SMTP) -> None:
    # A mail that was accepted must not be sent again because of an error after it.
    with suppress(OSError):
        connection.quit()
    connection.close()


def _refusal(what: str, code: int, reply: bytes | str) -> RejectedError | RetryableError:
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else reply
    error = RejectedError if code >= _FIRST_PERMANENT else RetryableError
    return error(f"{what} by the mail server: {code} {text}")
