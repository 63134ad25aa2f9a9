"""What goes wrong, as a vocabulary: each word works on whatever can suffer it, and undoes itself.

with kill(rabbitmq):      # it is dead inside, and runs again afterwards
with pause(worker):       # it hangs inside
with partition(network):  # nothing arrives any more, and no connection closes
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from chaos.backing import BreakableRabbitMQ, BreakableRedis
from chaos.victims import Victim
from integration.proxy import Proxy


class Fillable(Protocol):
    """Something of bounded size."""

    def fill(self) -> None:
        """Leave no room."""

    def drain(self) -> None:
        """Make room again."""


@contextmanager
def kill(victim: Victim) -> Iterator[None]:
    """SIGKILL, and a new start afterwards."""
    victim.kill()
    try:
        yield
    finally:
        victim.start()


@contextmanager
def stop(victim: Victim) -> Iterator[None]:
    """SIGTERM, and a new start afterwards."""
    victim.stop()
    try:
        yield
    finally:
        victim.start()


def restart(victim: Victim) -> None:
    """Stop it and start it at once."""
    with stop(victim):
        pass


@contextmanager
def pause(victim: Victim) -> Iterator[None]:
    """SIGSTOP: connections stay open and nobody answers."""
    victim.pause()
    try:
        yield
    finally:
        victim.resume()


@contextmanager
def partition(network: Proxy) -> Iterator[None]:
    """Pass nothing on and close nothing: what a switch that died looks like from both ends."""
    network.pause()
    try:
        yield
    finally:
        network.resume()


@contextmanager
def refuse(network: Proxy) -> Iterator[None]:
    """Close every connection and refuse new ones."""
    network.cut()
    try:
        yield
    finally:
        network.restore()


@contextmanager
def alarm(rabbitmq: BreakableRabbitMQ) -> Iterator[None]:
    """Memory alarm: publishers' connections are not read any more."""
    rabbitmq.alarm()
    try:
        yield
    finally:
        rabbitmq.calm()


@contextmanager
def fill(store: Fillable) -> Iterator[None]:
    """No room: a queue refuses messages, Redis refuses writes."""
    store.fill()
    try:
        yield
    finally:
        store.drain()


@contextmanager
def read_only(redis: BreakableRedis) -> Iterator[None]:
    """Reads are answered, writes are not."""
    redis.make_read_only()
    try:
        yield
    finally:
        redis.make_writable()


def flush(redis: BreakableRedis) -> None:
    """Forget everything; there is no way back."""
    redis.flush()
