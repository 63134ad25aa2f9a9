"""One attempt of a task, from its message to what Celery is to do with that.

Around a task's function: the job begins and ends, its arguments are validated, its errors become a
retry, a rejection or a failure, a large result becomes an artifact.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import obstore
from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # not in its stubs
from celery import Task
from obstore.exceptions import BaseError
from obstore.store import ObjectStore
from pydantic import ValidationError

from contracts.results import MAX_RESULT_BYTES, RESULT_ARTIFACT, stored_result
from contracts.storage import artifact_key
from twinlane_sdk.errors import JobCancelledError, RejectedError, RetryableError
from twinlane_sdk.implementation import Implementation
from twinlane_sdk.task_spec import Args, Result, TaskSpec
from worker_runtime.app import WorkerApp
from worker_runtime.job import RunningJob
from worker_runtime.request import LaneRequest
from worker_runtime.retries import publish_next_stage, try_again

A = TypeVar("A", bound=Args)
R = TypeVar("R", bound=Result)

_SHOWN_RESULT_CHARACTERS: Final = 64
"""Of a result in the log and in Flower. Celery's 1,024 took a fifth of a trivial job's time."""
_HARD_LIMIT_GRACE_SECONDS: Final = 30


def implement(
    app: WorkerApp, implementation: Implementation[Any, Any], storage: ObjectStore
) -> None:
    """Register a task, surrounded by all that an attempt takes.

    A result above MAX_RESULT_BYTES goes to `storage` as the job's artifact `result.json`.
    """
    spec = implementation.spec

    def run(task: "Task[Any, Any]", *earlier: Any, **fields: Any) -> Any:  # noqa: ANN401 - JSON
        job_id = str(task.request.root_id or task.request.id)
        with app.running_jobs.add(job_id) as cancellation:
            job = RunningJob(task, spec, earlier[0] if earlier else None, cancellation)
            job.begin()
            try:
                with _storage_faults_retried():
                    result = implementation.function(_validated(spec, fields), job)
                    payload = _bounded(result.model_dump(mode="json"), job.id, storage)
            except JobCancelledError as exc:
                job.end_attempt(exc)
                job.end_as_cancelled()
            except RetryableError as exc:
                try_again(task, spec, job, exc)
            except Exception as exc:
                if terminate_handler_fired():
                    # Libraries make errors of their own of the signal that ends this process:
                    # the process ends, the job does not.
                    raise SystemExit from exc
                job.end_attempt(exc)
                raise
            job.end_attempt()
            publish_next_stage(app, task, payload)
            return payload

    limit = int(spec.deadline.total_seconds())
    app.task(
        name=spec.name,
        bind=True,
        Request=LaneRequest,
        shared=False,  # Celery's default lets a second registration of a name lose silently
        max_retries=None,  # the policy decides, by not retrying
        resultrepr_maxsize=_SHOWN_RESULT_CHARACTERS,
        soft_time_limit=limit,
        time_limit=limit + _HARD_LIMIT_GRACE_SECONDS,
    )(run)


@contextmanager
def _storage_faults_retried() -> Iterator[None]:
    try:
        yield
    except BaseError as exc:  # a missing object is a FileNotFoundError, and none of these
        raise RetryableError(f"the storage failed: {exc}") from exc


def _validated(spec: TaskSpec[A, Any], fields: dict[str, Any]) -> A:
    try:
        return spec.args.model_validate(fields)
    except ValidationError as exc:
        # Celery would store a ValidationError as a bare Exception.
        problems = "; ".join(
            f"{'.'.join(map(str, error['loc'])) or 'arguments'}: {error['msg']}"
            for error in exc.errors()
        )
        raise RejectedError(f"{spec.name} got invalid arguments: {problems}") from exc


def _bounded(payload: dict[str, Any], job_id: str, storage: ObjectStore) -> dict[str, Any]:
    encoded = json.dumps(payload).encode()
    if len(encoded) <= MAX_RESULT_BYTES:
        return payload
    obstore.put(storage, artifact_key(job_id, RESULT_ARTIFACT), encoded)
    return stored_result(len(encoded))
