"""The lanes: how much waits, how much runs, and whether anybody works."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.broker.counts import BrokerStats, QueueCount, WorkerAnswer, oldest_seconds
from api.components import Uses
from api.errors.openapi import responses
from api.errors.types import BrokerUnavailable
from contracts.lanes import Lane


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


def create_router() -> APIRouter:
    """Return the route /v1/lanes."""
    router = APIRouter(tags=["lanes"])
    router.add_api_route(
        "/v1/lanes",
        show_lanes,
        methods=["GET"],
        summary="Show the lanes",
        response_model=LaneList,
        responses=responses(BrokerUnavailable),
    )
    return router


async def show_lanes(components: Uses) -> LaneList:
    """Return the queues' counts and what the workers run."""
    queues, workers = await count_everything(components.broker_stats)
    return LaneList(lanes=[_lane_view(lane, queues[lane.queue_name], workers) for lane in Lane])


async def count_everything(
    stats: BrokerStats,
) -> tuple[dict[str, QueueCount], list[WorkerAnswer]]:
    """Return the counts of all queues, and of as many workers as consume from a lane."""
    queues = await stats.queues()
    expected = sum(queues[lane.queue_name].consumers for lane in Lane)
    return queues, await stats.workers(expected)


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
