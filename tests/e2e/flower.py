"""What Flower shows an operator, by its API."""

from collections.abc import Set as AbstractSet
from typing import Final

import httpx2

from e2e.client import Json
from servers import eventually

_SHOWN: Final = 50
_CLOCKWORK: Final = "io.purge_files"
"""Beat submits it every hour, whatever a test does."""


class Flower:
    """Flower, logged in with the stack's user and password."""

    def __init__(self, url: str, auth: tuple[str, str]) -> None:
        self.url = url
        self._client = httpx2.Client(base_url=url, auth=auth, timeout=30)

    def newest_tasks(self, including: AbstractSet[str] = frozenset()) -> dict[str, Json]:
        """Return the tasks that workers received last, by id, once those `including` are there."""
        tasks: dict[str, Json] = {}

        def shown() -> bool:
            nonlocal tasks
            answer = self._client.get(
                "/api/tasks", params={"limit": _SHOWN, "sort_by": "-received"}
            )
            tasks = answer.raise_for_status().json()
            return including <= tasks.keys()

        assert eventually(shown, within_seconds=20), f"Flower does not show {including}"
        return {id_: task for id_, task in tasks.items() if task["name"] != _CLOCKWORK}

    def online_workers(self) -> list[str]:
        """Return the names of the workers that send heartbeats."""
        answer = self._client.get("/workers", params={"json": 1}).raise_for_status()
        return [worker["hostname"] for worker in answer.json()["data"] if worker["status"]]
