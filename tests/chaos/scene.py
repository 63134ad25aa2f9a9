"""What tests of this suite say again and again: submit, wait, expect."""

from pathlib import Path

from chaos.client import Client
from e2e.client import TERMINAL, Json
from integration.place import Place
from servers import eventually


class Gate:
    """Holds a job of the obedient worker until it is opened."""

    def __init__(self, place: Place, name: str) -> None:
        self.url = f"http://waits.test/{name}"
        self._begun: Path = place.folder / f"{name}.begun"
        self._open: Path = place.folder / f"{name}.open"

    def wait_until_begun(self) -> None:
        assert eventually(self._begun.exists, 60), f"{self.url} was never begun"

    @property
    def is_begun(self) -> bool:
        return self._begun.exists()

    def open(self) -> None:
        self._open.touch()


def ended(client: Client, job_id: str, within_seconds: float = 90) -> Json:
    """Return a job once it is terminal."""
    seen: list[Json] = []

    def is_ended() -> bool:
        seen.append(client.job(job_id, wait=2))
        return seen[-1]["state"] in TERMINAL

    assert eventually(is_ended, within_seconds), seen[-1]
    return seen[-1]


def succeeded(client: Client, job_id: str, within_seconds: float = 90) -> Json:
    """Return a job that must succeed."""
    job = ended(client, job_id, within_seconds)
    assert job["state"] == "succeeded", job
    return job


def wait_for(client: Client, job_id: str, state: str, within_seconds: float = 60) -> None:
    reached = eventually(lambda: client.job(job_id)["state"] == state, within_seconds)
    assert reached, client.job(job_id)


def fetch(client: Client, url: str) -> str:
    """Submit a fetch and return its id."""
    return client.submit("io.fetch_url", {"url": url})


def add(client: Client, a: int, b: int) -> str:
    """Submit a sum and return its id."""
    return client.submit("cpu.sum_numbers", {"a": a, "b": b})
