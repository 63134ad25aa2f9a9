"""Who stands back for whom when the processor is short."""

import os

from integration.place import Place
from integration.services import Service
from servers import children_of


def niceness(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


def test_jobs_of_the_cpu_lane_stand_back_and_their_worker_does_not(place: Place) -> None:
    heartbeat = place.folder / "heartbeat"
    worker = Service(
        "worker-cpu",
        ["-m", "worker_cpu.main"],
        place,
        heartbeat_file=heartbeat,
        cpu_concurrency=2,
        cpu_nice=7,
    )
    try:
        worker.wait_until(heartbeat.exists)
        pool = children_of(worker.pid)
        own = niceness(os.getpid())
        assert niceness(worker.pid) == own
        assert [niceness(pid) for pid in pool] == [min(own + 7, 19)] * 2
    finally:
        worker.stop()
