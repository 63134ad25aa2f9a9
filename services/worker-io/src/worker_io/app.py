"""Composes the io lane's worker."""

import random
from datetime import timedelta

from contracts.storage import open_storage
from twinlane_tasks.catalogue import bundled_tasks
from worker_io.fetching.fetcher import Fetcher, FetchLimits
from worker_io.mail.smtp import MailServer
from worker_io.settings import WorkerIoSettings
from worker_io.tasks import IoTasks
from worker_runtime.app import WorkerApp, create_worker_app
from worker_runtime.executor import implement


def create_app(settings: WorkerIoSettings) -> WorkerApp:
    """Create the worker's application; connects to nothing yet."""
    app = create_worker_app(settings, bundled_tasks())
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
    for implementation in tasks.implementations():
        implement(app, implementation, storage)
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
