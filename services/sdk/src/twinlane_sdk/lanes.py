"""The lanes: which kind of worker a task needs."""

from enum import StrEnum


class Lane(StrEnum):
    """A queue with its own kind of worker."""

    IO = "io"
    CPU = "cpu"

    @property
    def queue_name(self) -> str:
        """Name of the lane's queue, which is also its routing key."""
        return f"jobs.{self}"
