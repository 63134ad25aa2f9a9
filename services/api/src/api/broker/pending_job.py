"""A job on its way: between its submission and the broker's confirm."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from api.errors.types import ApiError
from contracts.records import JobRecord

OnRefusal: TypeAlias = Callable[["PendingJob", ApiError], object]


class PendingJob:
    """A job whose submitter waits for its `outcome`: None if the broker has it, else why not.

    With `on_refusal`, a refusal is passed on first, to be reconciled; whoever is called resolves
    the job then.
    """

    __slots__ = ("_on_refusal", "deadline", "is_new", "outcome", "record")

    def __init__(
        self, record: JobRecord, deadline: float, on_refusal: OnRefusal | None = None
    ) -> None:
        self.record = record
        self.deadline = deadline
        """When its submitter must have the outcome, in the loop's time."""
        self.is_new = True
        """False if an earlier request had recorded the job: then it is not sent again."""
        self.outcome: asyncio.Future[ApiError | None] = asyncio.get_running_loop().create_future()
        self._on_refusal = on_refusal

    def resolve(self, error: ApiError | None) -> None:
        """Give the submitter the outcome, unless it has gone."""
        if not self.outcome.done():
            self.outcome.set_result(error)

    def refuse(self, error: ApiError) -> None:
        """Take why the broker has not, or may not have, the job."""
        if self._on_refusal:
            self._on_refusal(self, error)
        else:
            self.resolve(error)

    def fail(self, error: Exception) -> None:
        """Raise to the submitter why nobody has tried to send the job."""
        if not self.outcome.done():
            self.outcome.set_exception(error)
