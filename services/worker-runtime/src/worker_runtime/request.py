"""Celery's request, mended where it ends a job that nobody has cancelled."""

from typing import Any

from celery.worker.request import Request


class LaneRequest(Request):
    """What the executor registers as the request of every task."""

    def cancel(self, pool: Any, signal: int | None = None, emit_retry: bool = True) -> None:  # noqa: ANN401, FBT001, FBT002 - Celery's signature
        """Stop a job whose connection was lost: its message is delivered again.

        Celery remembers that for jobs that have begun. One that waits for its process just then it
        would take for terminated on somebody's wish: revoked, acknowledged, and so lost.
        """
        super().cancel(pool, signal, emit_retry)
        self._already_cancelled = True
