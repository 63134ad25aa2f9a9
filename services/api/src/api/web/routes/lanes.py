"""The lanes: how much waits, how much runs, and whether anybody works."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.auth.api_keys import Scope
from api.auth.scopes import needs
from api.broker.counts import QueueCount, WorkerAnswer, oldest_seconds
from api.components import Uses
from api.errors.openapi import responses
from api.errors.types import BrokerUnavailable
from twinlane_sdk.lanes import Lane

router = APIRouter(tags=["lanes"])


class LaneView(BaseModel):
    """One lane's queue and its workers."""

    lane: Lane
    queue: str
    ready: int = Field(description="Jobs that wait for a worker.")
    running: int = Field(description="Jobs that workers run at this moment.")
    consumers: int
    oldest_seconds: float | None = Field(
        description="How long the next job has waited, at most; null when none waits, or no "
        "worker can tell."
    )
    no_consumers: bool = Field(description="True when nobody works: jobs wait until somebody does.")


class LaneList(BaseModel):
    """All lanes."""

    lanes: list[LaneView]


@router.get("/v1/lanes", summary="Show the lanes", responses=responses(BrokerUnavailable))
@needs(Scope.READ)
async def show_lanes(components: Uses) -> LaneList:
    """Return the queues' counts and what the workers run."""
    queues, workers = await components.broker_stats.everything()
    return LaneList(lanes=[_lane_view(lane, queues[lane.queue_name], workers) for lane in Lane])


def _lane_view(lane: Lane, queue: QueueCount, workers: list[WorkerAnswer]) -> LaneView:
    return LaneView(
        lane=lane,
        queue=lane.queue_name,
        ready=queue.ready,
        running=sum(worker.count.active for worker in workers if worker.count.lane == lane),
        consumers=queue.consumers,
        oldest_seconds=oldest_seconds(queue, lane, workers),
        no_consumers=queue.consumers == 0,
    )
