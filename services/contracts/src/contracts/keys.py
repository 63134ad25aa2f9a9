"""Every key and channel in Redis. Who writes them and for how long is in docs/ARCHITECTURE.md."""

from typing import Final

META_PREFIX: Final = "celery-task-meta-"
"""Celery's own prefix; a state change is published on a channel of the key's name."""
UNCONFIRMED_PREFIX: Final = "twinlane:unconfirmed:"


def record_key(job_id: str) -> str:
    """Return the key of a job's record: a JSON string."""
    return f"twinlane:job:{job_id}"


def attempts_key(job_id: str) -> str:
    """Return the key of a job's attempts: a list of JSON strings."""
    return f"twinlane:attempts:{job_id}"


def batch_key(batch_id: str) -> str:
    """Return the key of a batch's record: a JSON string."""
    return f"twinlane:batch:{batch_id}"


def items_key(batch_id: str) -> str:
    """Return the key of what became of a batch's items: a byte for each, ITEM_JOB or another."""
    return f"twinlane:batch-items:{batch_id}"


def reopens_key(batch_id: str) -> str:
    """Return the key of how often a job of a batch was reopened after its end: a number."""
    return f"twinlane:batch-reopens:{batch_id}"


def ends_channel(batch_id: str) -> str:
    """Return the channel where the ids of a batch's jobs are announced that have ended."""
    return f"twinlane:batch-ends:{batch_id}"


def meta_key(task_id: str) -> str:
    """Return the key where Celery keeps how a task ended: a JSON string, written once.

    It is also the name of the channel where every change of the task is announced.
    """
    return META_PREFIX + task_id


def running_key(task_id: str) -> str:
    """Return the key of what a task does that has not ended: a JSON string."""
    return f"twinlane:running:{task_id}"


def redeliveries_key(task_id: str, requeues: int, attempt: int) -> str:
    """Return the key of how often an attempt was begun again: a number."""
    return f"twinlane:redeliveries:{task_id}:{requeues}:{attempt}"


def cancel_key(job_id: str) -> str:
    """Return the key of the mark that nobody wants a job any more: when that was said."""
    return f"twinlane:cancel:{job_id}"


def requeues_key(job_id: str) -> str:
    """Return the key of how often a job was taken out of the dead letters: a number."""
    return f"twinlane:requeues:{job_id}"


def confirmed_key(job_id: str) -> str:
    """Return the key of the mark that the broker has a job with an Idempotency-Key, or a batch."""
    return f"twinlane:confirmed:{job_id}"


def unconfirmed_key(job_id: str) -> str:
    """Return the key of the mark that a job may or may not have reached the broker."""
    return f"{UNCONFIRMED_PREFIX}{job_id}"
