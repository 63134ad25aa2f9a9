"""How often and how patiently a failing task is tried again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with jitter: base, base·2, base·4 … seconds, never above the maximum."""

    max_attempts: int
    base_seconds: float = 1.0
    max_seconds: float = 60.0

    def backoff_seconds(self, attempt: int, jitter: float) -> int:
        """Return the wait after a failed attempt, in whole seconds from 1 up.

        The broker's delayed delivery knows whole seconds only. `attempt` counts from 1; `jitter`,
        in [0, 1), takes away up to half of the wait, so that failures do not return in step.
        """
        ceiling = min(self.max_seconds, self.base_seconds * 2.0 ** (attempt - 1))
        return max(1, round(ceiling * (1 - jitter / 2)))
