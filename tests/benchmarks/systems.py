"""The systems whose submissions are compared: ours and the peers, each with what it promises."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

from benchmarks.load import Request
from benchmarks.measure import Row, Table
from benchmarks.ours import Api, our_api
from benchmarks.peer import Peer
from benchmarks.samples import Sample
from integration.place import Place

CELERY: Final = Peer("celery")
TASKIQ: Final = Peer("taskiq")
DRAMATIQ: Final = Peer("dramatiq")
ARQ: Final = Peer("arq")
RQ: Final = Peer("rq")

OURS: Final = "Twinlane"
DEMO: Final = "FastAPI + Celery, the demo pattern"

OUR_DURABILITY: Final = (
    "record in Redis before, quorum queue, on disk and confirmed before the answer"
)
REDIS_DURABILITY: Final = "Redis only: the last second is lost with the machine"
TASKIQ_DURABILITY: Final = "no record; quorum queue, on disk and confirmed before the answer"

_SUM: Final = json.dumps({"a": 2, "b": 3})


class Side(Protocol):
    """One side of a comparison of submissions."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def durability(self) -> str:
        """Say what of an accepted job survives."""


def durability_table(
    heading: str, sides: Sequence[Side], columns: Mapping[str, Mapping[str, Sample]]
) -> Table:
    """Return a table of sides, ours first, with what of an accepted job survives beside figures.

    `columns` has the figures by the column's title and the side's name.
    """
    rows = [
        Row(
            side.name,
            (*(samples[side.name] for samples in columns.values()), side.durability),
            ours=side is sides[0],
        )
        for side in sides
    ]
    return Table((heading, *columns, "What of a job survives"), rows)


@dataclass(frozen=True)
class System:
    """An API that accepts jobs, how to start it and where it takes them."""

    name: str
    durability: str
    """What of an accepted job survives."""
    start: Callable[[Place], AbstractContextManager[Api]] = field(repr=False)
    path: str = "/jobs"

    def request(self, api: Api) -> Request:
        """Return the submission of one trivial job."""
        return Request(api.url + self.path, _SUM)


def celery_over_redis(place: Place) -> AbstractContextManager[Api]:
    """Start the demo pattern: Redis is broker and result backend."""
    return CELERY.api(place, BROKER_URL=place.result_url)


SYSTEMS: Final = (
    System(OURS, OUR_DURABILITY, our_api, "/v1/tasks/cpu.sum_numbers/jobs"),
    System(DEMO, f"no record; {REDIS_DURABILITY}", celery_over_redis),
    System("FastAPI + taskiq-aio-pika", TASKIQ_DURABILITY, TASKIQ.api),
    System(
        "FastAPI + dramatiq (RabbitMQ)",
        "no record; durable classic queue, unconfirmed: what is under way is lost with either end",
        DRAMATIQ.api,
    ),
    System("FastAPI + arq", REDIS_DURABILITY, ARQ.api),
    System("FastAPI + RQ", REDIS_DURABILITY, RQ.api),
)
