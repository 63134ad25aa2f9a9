"""Workers."""

import os
import time
from pathlib import Path

import pytest

from chaos.backing import BreakableRabbitMQ
from chaos.faults import kill
from chaos.reliability import Measured
from chaos.services import BeatingService, io_worker, obedient_worker
from contracts.lanes import Lane
from contracts.records import JobState
from contracts.tasks import DRAW_NUMBER, FETCH_URL, SUM_NUMBERS
from integration.broker import Broker
from integration.jobs import Jobs
from integration.place import Place
from servers import eventually


def begun(place: Place, gate: str) -> bool:
    return (place.folder / f"{gate}.begun").exists()


def open_gate(place: Place, gate: str) -> None:
    (place.folder / f"{gate}.open").touch()


def test_job_survives_the_death_of_its_worker(
    place: Place, broker: Broker, jobs: Jobs, measured: Measured
) -> None:
    """A job whose worker dies is run by another one.

    Fault: kill -9 of the io worker while its job runs.
    """
    with (
        obedient_worker(place, Lane.IO, "first") as first,
    ):
        job = jobs.submit(FETCH_URL, url="http://waits.test/gate")
        assert eventually(lambda: begun(place, "gate"), 30)
        with kill(first):
            killed = time.monotonic()
            assert eventually(lambda: broker.ready(Lane.IO.queue_name) == 1, 30)
            measured.seconds("back in the queue after", time.monotonic() - killed)
        open_gate(place, "gate")
        assert jobs.outcome(job).state is JobState.SUCCEEDED
