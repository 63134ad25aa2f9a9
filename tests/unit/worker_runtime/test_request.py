from typing import Any
from weakref import ref

from billiard.einfo import ExceptionInfo
from celery import Celery
from celery.exceptions import Terminated
from kombu import Message

from worker_runtime.request import LaneRequest


class Handed:
    """What the pool returns for a job that it has not given to a process yet."""

    def terminate(self, signal: int) -> None:
        self.signal = signal


def failure(error: Exception) -> ExceptionInfo:
    try:
        raise error  # noqa: TRY301 - for its traceback
    except Exception:  # noqa: BLE001 - of whatever kind it is to be
        return ExceptionInfo()


def test_job_that_waits_for_its_process_when_the_connection_is_lost_is_not_revoked() -> None:
    app = Celery("a-worker", broker="memory://", backend="cache+memory://", set_as_current=False)
    acknowledged: list[object] = []

    @app.task(name="io.fetch_url", acks_late=True, shared=False)
    def fetch() -> None:
        """Do nothing."""

    message: Any = Message(
        body="[[], {}, {}]",
        headers={"task": "io.fetch_url", "id": "a-job", "root_id": "a-job"},
        content_type="application/json",
        content_encoding="utf-8",
    )
    request = LaneRequest(message, app=app, task=fetch, on_ack=lambda *a: acknowledged.append(a))
    handed = Handed()
    vars(request)["_apply_result"] = ref(handed)  # as the pool's apply_async does

    request.cancel(pool=None)  # the worker has lost the broker
    request.on_failure(failure(Terminated(15)))  # and the pool has done what it was told

    assert handed.signal == 15
    assert app.AsyncResult("a-job").state == "PENDING"
    assert acknowledged == []
