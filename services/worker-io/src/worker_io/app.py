"""Composes the io lane's worker."""

import random
from datetime import timedelta

from contracts.implementation import implement
from contracts.storage import open_storage
from contracts.tasks import DRAW_NUMBER, FAN_OUT, FETCH_URL, PURGE_FILES, SEND_REPORT
from contracts.wire import JobApp, create_celery
from worker_io.fetching.fetcher import Fetcher, FetchLimits
from worker_io.mail.smtp import MailServer
from worker_io.settings import WorkerIoSettings
from worker_io.tasks import IoTasks


def create_app(settings: WorkerIoSettings) -> JobApp:
    """Create the worker's application; connects to nothing yet."""
    app = create_celery(settings)
    storage = open_storage(settings.storage_url)
    tasks = IoTasks(
        fetcher=Fetcher(settings.allowed_hosts, _fetch_limits(settings), settings.private_hosts),
        numbers=random.SystemRandom(),
        storage=storage,
        mail_server=_mail_server(settings),
        mail_from=settings.mail_from,
        allowed_recipients=settings.allowed_recipients,
        upload_ttl=timedelta(seconds=settings.upload_ttl_seconds),
        artifact_ttl=timedelta(seconds=settings.artifact_ttl_seconds),
    )
    implement(app, FETCH_URL, tasks.fetch_url, storage)
    implement(app, FAN_OUT, tasks.fan_out, storage)
    implement(app, DRAW_NUMBER, tasks.draw_number, storage)
    implement(app, SEND_REPORT, tasks.send_report, storage)
    implement(app, PURGE_FILES, tasks.purge_files, storage)
    return app


def _fetch_limits(settings: WorkerIoSettings) -> FetchLimits:
    return FetchLimits(
        timeout_seconds=settings.fetch_timeout_seconds,
        max_bytes=settings.fetch_max_bytes,
        max_redirects=settings.fetch_max_redirects,
        max_connections=settings.fetch_max_connections,
        max_per_host=settings.fetch_max_per_host,
        fan_out_concurrency=settings.fan_out_concurrency,
    )


def _mail_server(settings: WorkerIoSettings) -> MailServer:
    username, password = settings.smtp_username, settings.smtp_password
    return MailServer(
        host=settings.smtp_host,
        port=settings.smtp_port,
        timeout_seconds=settings.smtp_timeout_seconds,
        username=username.get_secret_value() if username else None,
        password=password.get_secret_value() if password else None,
        starttls=settings.smtp_starttls,
    )
