"""What follows an attempt: the next attempt after a while, or the job's next stage."""

import logging
import random
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

from celery import Celery, Task
from celery.exceptions import Reject

from twinlane_sdk.errors import RetryableError
from twinlane_sdk.retry_policy import RetryPolicy
from twinlane_sdk.task_spec import TaskSpec
from worker_runtime.job import RunningJob

T = TypeVar("T")

PUBLISH_PATIENCE_SECONDS: Final = 120.0
_PUBLISH_PAUSE_SECONDS: Final = 2.0

logger = logging.getLogger(__name__)


def try_again(
    task: "Task[Any, Any]", spec: TaskSpec[Any, Any], job: RunningJob, exc: RetryableError
) -> NoReturn:
    """Have the broker deliver the job again after a while, or give up: the policy decides.

    Raises:
        celery.exceptions.Retry: it will be delivered again.
        RetryableError: it was the last attempt.
        Reject: the broker does not take the message of the next attempt.

    """
    backoff = _backoff(spec.retry, job.attempt)
    job.end_attempt(exc, backoff)
    if backoff is None:
        raise exc
    logger.warning("%s[%s]: %s; again in %d s", spec.name, job.id, exc, backoff)
    raise _published(task, lambda: task.retry(countdown=backoff, exc=exc, throw=False))


def publish_next_stage(app: Celery, task: "Task[Any, Any]", payload: object) -> None:
    """Publish the stage that comes next, if any, with what this one leaves behind.

    Celery would do the same, but make a failure of the job of a broker that is away.

    Raises:
        Reject: the broker does not take its message.

    """
    request: Any = task.request
    if not request.chain:
        return
    *later, following = request.chain
    stage = app.signature(following)
    _published(
        task,
        lambda: stage.apply_async(
            (payload,), chain=later, parent_id=request.id, root_id=request.root_id
        ),
    )
    request.chain = None


def _published(task: "Task[Any, Any]", publish: Callable[[], T]) -> T:
    """Publish what follows, as soon as the broker takes it.

    Giving the message back at once would use up its deliveries in a moment; a broker that lacks
    memory, say, takes longer to recover.

    Raises:
        Reject: it does not for PUBLISH_PATIENCE_SECONDS, and the message comes again.

    """
    request: Any = task.request
    give_up = time.monotonic() + PUBLISH_PATIENCE_SECONDS
    while True:
        try:
            return publish()
        except Exception as exc:
            logger.warning("%s[%s] can't publish what follows: %s", task.name, request.id, exc)
            # Not STARTED any more, or the next delivery would take this attempt for a lost one.
            task.backend.mark_as_retry(request.id, exc, request=request)
            if time.monotonic() > give_up:
                raise Reject(exc, requeue=True) from exc
            time.sleep(_PUBLISH_PAUSE_SECONDS)


def _backoff(policy: RetryPolicy, attempt: int) -> int | None:
    if attempt >= policy.max_attempts:
        return None
    return policy.backoff_seconds(attempt, random.random())  # noqa: S311 - jitter, not a secret
