"""What a worker answers when it is asked for its numbers, by Celery's remote control."""

from typing import Any

from celery import signals
from celery.worker import state as worker_state
from celery.worker.control import inspect_command

from contracts.worker_counts import COUNT_TASKS, WorkerCount
from twinlane_sdk.lanes import Lane


def register_count_tasks(lane: Lane) -> None:
    """Have this process answer COUNT_TASKS with its WorkerCount."""
    newest: list[str] = []

    def note(request: Any, **_: object) -> None:  # noqa: ANN401 - Celery's Request
        submitted_at = request.request_dict.get("submitted_at")
        if submitted_at:
            newest[:] = [max([submitted_at, *newest])]

    @inspect_command(name=COUNT_TASKS)
    def count_tasks(state: object) -> dict[str, Any]:  # noqa: ARG001 - Celery passes it
        active = len(worker_state.active_requests)
        count = WorkerCount(
            lane=lane,
            active=active,
            reserved=len(worker_state.reserved_requests) - active,
            newest_submitted_at=newest[0] if newest else None,
        )
        return count.model_dump(mode="json")

    signals.task_received.connect(note, weak=False)
