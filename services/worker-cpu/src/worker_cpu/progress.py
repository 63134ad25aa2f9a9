"""How domain code reports its progress, without knowing to whom."""

from typing import Protocol


class Progress(Protocol):
    """Takes progress in units of the work; may be called as often as is convenient."""

    def __call__(
        self, current: int, total: int | None, unit: str, message: str | None = None
    ) -> None:
        """Report that `current` of `total` units (None: unknown) are done."""
