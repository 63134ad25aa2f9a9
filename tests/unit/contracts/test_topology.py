import pytest
from kombu import Queue

from contracts.topology import (
    DEAD,
    DEAD_LETTER_NOTICES,
    DEAD_LETTERS,
    JOBS,
    LANE_QUEUES,
    lane_queue,
)
from twinlane_sdk.lanes import Lane

DEAD_QUEUES = (DEAD_LETTERS, DEAD_LETTER_NOTICES)
QUEUES = pytest.mark.parametrize(
    "queue", [*LANE_QUEUES, *DEAD_QUEUES], ids=lambda queue: str(queue.name)
)


def test_every_lane_has_one_queue_named_after_it() -> None:
    assert [queue.name for queue in LANE_QUEUES] == ["jobs.io", "jobs.cpu"]
    assert [lane.queue_name for lane in Lane] == ["jobs.io", "jobs.cpu"]


@QUEUES
def test_every_queue_is_a_durable_quorum_queue(queue: Queue) -> None:
    assert queue.durable
    assert queue.queue_arguments is not None
    assert queue.queue_arguments["x-queue-type"] == "quorum"


@QUEUES
def test_every_queue_is_bound_by_its_own_name(queue: Queue) -> None:
    assert queue.routing_key == queue.name


@pytest.mark.parametrize("lane", Lane)
def test_lane_gives_up_deliveries_to_the_dead_letters_and_drops_none(lane: Lane) -> None:
    assert lane_queue(lane).queue_arguments == {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "jobs.dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-delivery-limit": 5,
    }


@pytest.mark.parametrize("queue", DEAD_QUEUES, ids=lambda queue: str(queue.name))
def test_dead_letters_survive_being_read_again_and_again(queue: Queue) -> None:
    arguments = queue.queue_arguments
    assert arguments is not None
    assert arguments["x-delivery-limit"] >= 1_000_000
    assert "x-dead-letter-exchange" not in arguments
    assert "x-message-ttl" not in arguments


def test_lanes_hang_on_a_topic_exchange_for_delayed_delivery() -> None:
    assert (JOBS.name, JOBS.type, JOBS.durable) == ("jobs", "topic", True)
    assert all(queue.exchange == JOBS for queue in LANE_QUEUES)


def test_both_dead_letter_queues_get_every_dead_letter() -> None:
    assert (DEAD.name, DEAD.type, DEAD.durable) == ("jobs.dead", "fanout", True)
    assert all(queue.exchange == DEAD for queue in DEAD_QUEUES)
