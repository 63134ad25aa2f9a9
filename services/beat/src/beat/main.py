"""Start beat: `python -m beat.main`. Exactly one should run; a second one does no harm."""

from functools import partial
from typing import Any, Final

from beat.records import JobRecords
from beat.schedule import create_schedule
from beat.scheduler import JobScheduler
from beat.settings import BeatSettings
from beat.submission import Submitter
from contracts.celery_app import create_celery, keep_own_logging
from contracts.logs import configure_logging
from contracts.settings import read_settings
from twinlane_tasks.catalogue import bundled_tasks

MAX_LOOP_SECONDS: Final = 10
"""How long the loop sleeps at most, and so how old a heartbeat may become."""


def main() -> None:
    """Read the environment and submit what is due, until SIGTERM."""
    settings = read_settings(BeatSettings)
    configure_logging("beat", settings.log_level)
    catalogue = bundled_tasks()
    app = create_celery(settings, catalogue)
    app.conf.beat_schedule = create_schedule(settings.recipients)
    app.conf.beat_max_loop_interval = MAX_LOOP_SECONDS
    keep_own_logging()
    records = JobRecords(settings.result_url.get_secret_value())
    submitter = Submitter(app, catalogue, records, settings.job_ttl_seconds)
    scheduler: Any = partial(
        JobScheduler, submitter=submitter, heartbeat_file=settings.heartbeat_file
    )
    app.Beat(
        scheduler_cls=scheduler,
        schedule=str(settings.beat_state_file),
        redirect_stdouts=False,
        quiet=True,
    ).run()


if __name__ == "__main__":
    main()
