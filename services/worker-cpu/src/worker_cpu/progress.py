"""How domain code says how far it is, without knowing who listens."""

from typing import Protocol


class Progress(Protocol):
    """Hears of progress in real units; may be called as often as is convenient."""

    def __call__(
        self, current: int, total: int | None, unit: str, message: str | None = None
    ) -> None:
        """Hear that `current` of `total` units (None: unknown) are done."""
