"""The Celery application that every service has: how the broker is reached, where tasks go.

The settings are those that FIELD-NOTES found right for at-least-once. What only a worker does with
a message is set by `worker_runtime.app`.
"""

import socket
from typing import Any, Final, TypeVar

from celery import Celery, signals

from contracts.settings import SharedSettings
from contracts.topology import LANE_QUEUES
from twinlane_sdk.catalogue import Catalogue
from twinlane_sdk.lanes import Lane

App = TypeVar("App", bound=Celery)

BROKER_TRANSPORT_OPTIONS: Final[dict[str, Any]] = {
    "confirm_publish": True,
    # confirm_timeout alone does not bound a publish: kombu then waits in Channel.close().
    "read_timeout": 5,
    "write_timeout": 5,
    # kombu's default of one second cuts the connection on a hiccup of the network.
    "socket_settings": {socket.TCP_USER_TIMEOUT: 10_000},
}


def keep_own_logging() -> None:
    """Keep Celery from setting up its own logging: main.py has configured it."""
    signals.setup_logging.connect(_ignore_setup)


def _ignore_setup(**_: object) -> None:
    """Receive setup_logging: that there is a receiver is what keeps Celery from it."""


def create_celery(settings: SharedSettings, catalogue: Catalogue) -> Celery:
    """Create the application of a service that publishes jobs; it keeps no results."""
    return configure(Celery("twinlane", set_as_current=False), settings, catalogue)


def configure(app: App, settings: SharedSettings, catalogue: Catalogue) -> App:
    """Set what all services agree on."""
    app.conf.update(
        broker_url=settings.broker_url.get_secret_value(),
        broker_transport_options=BROKER_TRANSPORT_OPTIONS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # by default a worker gives up after 100 tries
        broker_channel_error_retry=True,
        broker_heartbeat=15,  # a connection that died silently is noticed after two of them
        task_queues=LANE_QUEUES,
        task_default_queue=Lane.IO.queue_name,
        task_create_missing_queues=False,
        task_routes={spec.name: {"queue": spec.lane.queue_name} for spec in catalogue.values()},
        task_publish_retry_policy={"max_retries": 5, "interval_step": 0.5, "interval_max": 2},
        task_serializer="json",
        accept_content=["json"],
        enable_utc=True,
        timezone="UTC",
    )
    return app
