"""Workers of the peers as child processes, and the jobs that they are given."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from benchmarks.peer import Peer
from integration.place import Place

CELERY_QUEUE: Final = "plain"
"""Queue, exchange and routing key of plain Celery's jobs."""

_READY: Final = {
    "celery": " ready.",
    "dramatiq": "Worker process is ready",
    "taskiq": "Listening started",
}


def celery_command(pool: str, concurrency: int | None = None) -> list[str]:
    """Return how to start plain Celery; without a number, it runs as many jobs as by default."""
    number = [] if concurrency is None else ["--concurrency", str(concurrency)]
    alone = ["--without-gossip", "--without-mingle"]  # as ours
    options = ["--pool", pool, *number, *alone, "--loglevel", "INFO"]
    return ["celery", "--app", _module("celery"), "worker", *options]


def dramatiq_command(processes: int) -> list[str]:
    """Return how to start dramatiq, with its usual eight threads in each process."""
    return ["dramatiq", _module("dramatiq"), "--processes", str(processes)]


def taskiq_command(processes: int) -> list[str]:
    """Return how to start taskiq, with its usual hundred coroutines at once in each process."""
    return ["taskiq", "worker", f"{_module('taskiq')}:broker", "--workers", str(processes)]


@contextmanager
def peer_worker(peer: Peer, place: Place, command: Sequence[str]) -> Iterator[int]:
    """Run a worker of a peer, ready inside; yield its process id."""
    log = place.folder / "worker.log"

    def is_ready() -> bool:
        return _READY[peer.name] in log.read_text(errors="replace")

    with peer.worker(place, *command, is_ready=is_ready) as pid:
        yield pid


def publish_sums(peer: Peer, place: Place, count: int) -> list[str]:
    """Have a peer publish sums with its own client; return the keys of their results to be."""
    program = peer.program("publish", place, _module(peer.name), str(count))
    published = subprocess.run(
        program.argv, env=program.env, cwd=program.cwd, check=True, stdout=subprocess.PIPE
    )
    return published.stdout.decode().split()


def _module(peer: str) -> str:
    return f"benchmarks.peers.{peer}.worker"
