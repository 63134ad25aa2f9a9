"""Celery's scheduler, made to submit jobs that have a record and an id derived from their tick."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celery.beat import PersistentScheduler
from pydantic import ValidationError

from beat.schedule import newest_tick
from beat.submission import Submitter, tick_id


class JobScheduler(PersistentScheduler):
    """Submits due entries; touches a heartbeat file at every pass of the loop."""

    # Celery would connect its own before each entry, and wait for it without an end.
    producer: Any = None

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - Celery's own
        submitter: Submitter,
        heartbeat_file: Path | None,
        **kwargs: Any,  # noqa: ANN401 - Celery's own
    ) -> None:
        self._submitter = submitter
        self._heartbeat_file = heartbeat_file
        super().__init__(*args, **kwargs)

    def install_default_entries(self, data: object) -> None:
        """Add no entry: Redis deletes what expires, and beat has no result backend to ask."""

    def tick(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401 - Celery's own
        """Run what is due; return the seconds until the next look."""
        if self._heartbeat_file:
            self._heartbeat_file.touch()
        return float(super().tick(*args, **kwargs))

    def apply_async(
        self,
        entry: Any,  # noqa: ANN401 - a ScheduleEntry, whose stubs make every field optional
        producer: object = None,  # noqa: ARG002 - a connection of its own is opened each time
        advance: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        **_: object,
    ) -> None:
        """Submit the job of an entry's tick; what could not be submitted stays due."""
        advanced: Any = self.reserve(entry) if advance else self.schedule[entry.name]
        fields = {
            name: value() if callable(value) else value for name, value in entry.kwargs.items()
        }
        # Celery has counted it as done already, and saves the schedule when it is stopped.
        self.schedule[entry.name] = entry
        try:
            tick = newest_tick(entry.schedule, datetime.now(UTC))
            self._submitter.submit(entry.task, fields, tick_id(entry.name, tick))
        except ValidationError:  # nor would it be accepted when it is tried again
            self.schedule[entry.name] = advanced
            raise
        except Exception:
            self._heap = None  # the order of what is due, which Celery then works out anew
            raise
        self.schedule[entry.name] = advanced
