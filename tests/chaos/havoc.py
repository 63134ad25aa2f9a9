"""Seeded havoc: services and servers are killed, stopped and made to hang, and come back."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from chaos.backing import BreakableRabbitMQ, BreakableRedis
from chaos.faults import kill, pause, restart
from chaos.services import Service
from chaos.victims import Victim

_PAUSE_SECONDS: Final = 4.0
_BETWEEN_SECONDS: Final = (2.0, 7.0)


@dataclass(frozen=True)
class Down:
    """When something was away, as time.time() says."""

    name: str
    since: float
    until: float

    def covers(self, begin: float, end: float, slack: float) -> bool:
        """Return whether a span of time touches this one."""
        return begin <= self.until + slack and end >= self.since - slack


@dataclass
class Havoc:
    """Does one fault after the other, and keeps everybody running who should run."""

    seed: int
    api: Service
    io_workers: list[Service]
    cpu_workers: list[Service]
    rabbitmq: BreakableRabbitMQ
    redis: BreakableRedis
    downs: list[Down] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    ended_by_itself: list[str] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """Cause faults for that long; everything runs again when this returns."""
        chance = random.Random(self.seed)  # noqa: S311 - to be repeated
        until = time.monotonic() + seconds
        for name, fault in self._schedule(chance):
            self._watch_for(chance.uniform(*_BETWEEN_SECONDS), until)
            if time.monotonic() >= until:
                break
            fault()
            self.done[name] += 1
        for service in self._services:
            service.wait_until_ready()

    @property
    def _services(self) -> list[Service]:
        return [self.api, *self.io_workers, *self.cpu_workers]

    def _schedule(self, chance: random.Random) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield every fault once in a random order, the gravest first, and so on for ever."""
        while True:
            for deck in (self._gravest(chance), self._others(chance)):
                chance.shuffle(deck)
                yield from deck

    def _gravest(self, chance: random.Random) -> list[tuple[str, Callable[[], None]]]:
        io, cpu = chance.choice(self.io_workers), chance.choice(self.cpu_workers)
        return [
            ("kill -9 of the API", lambda: self._restarted(self.api, self.api.kill, chance)),
            ("kill -9 of an io worker", lambda: self._restarted(io, io.kill, chance)),
            ("kill -9 of a cpu worker", lambda: self._restarted(cpu, cpu.kill, chance)),
            ("kill -9 of a pool child", lambda: self._kill_child(cpu)),
            ("kill -9 of RabbitMQ", lambda: self._killed(self.rabbitmq, chance)),
            ("kill -9 of Redis", lambda: self._killed(self.redis, chance)),
        ]

    def _others(self, chance: random.Random) -> list[tuple[str, Callable[[], None]]]:
        io, cpu = chance.choice(self.io_workers), chance.choice(self.cpu_workers)
        worker = chance.choice([io, cpu])
        return [
            ("stop of the API", lambda: self._restarted(self.api, self.api.stop, chance)),
            ("stop of an io worker", lambda: self._restarted(io, io.stop, chance)),
            ("stop of a cpu worker", lambda: self._restarted(cpu, cpu.stop, chance)),
            (
                "kill -9 of a cpu worker's main process",
                lambda: self._restarted(cpu, cpu.kill_main, chance),
            ),
            ("SIGSTOP of a worker", lambda: self._paused(worker)),
            ("restart of RabbitMQ", lambda: self._away(self.rabbitmq, restart)),
            ("restart of Redis", lambda: self._away(self.redis, restart)),
            ("SIGSTOP of RabbitMQ", lambda: self._paused(self.rabbitmq)),
            ("SIGSTOP of Redis", lambda: self._paused(self.redis)),
        ]

    def _restarted(self, service: Service, end: Callable[[], None], chance: random.Random) -> None:
        """End a service and start it again after a moment, as a supervisor would."""
        since = time.time()
        end()
        time.sleep(chance.uniform(0.1, 2))
        service.launch()
        if service is self.api:
            service.wait_until_ready()
        self.downs.append(Down(service.name, since, time.time()))

    def _kill_child(self, worker: Service) -> None:
        worker.wait_until_ready()
        worker.kill_child()

    def _killed(self, victim: Victim, chance: random.Random) -> None:
        seconds = chance.uniform(0, 3)

        def kill_for_a_while(victim: Victim) -> None:
            with kill(victim):
                time.sleep(seconds)

        self._away(victim, kill_for_a_while)

    def _paused(self, victim: Victim) -> None:
        def pause_for_a_while(victim: Victim) -> None:
            with pause(victim):
                time.sleep(_PAUSE_SECONDS)

        self._away(victim, pause_for_a_while)

    def _away(self, victim: Victim, fault: Callable[[Victim], None]) -> None:
        since = time.time()
        fault(victim)
        self.downs.append(Down(victim.name, since, time.time()))

    def _watch_for(self, seconds: float, until: float) -> None:
        """Wait, and meanwhile start again whoever has ended without being told to."""
        end = min(time.monotonic() + seconds, until)
        while time.monotonic() < end:
            for service in self._services:
                if not service.is_running():
                    self.ended_by_itself.append(f"{service.name}:\n{service.tail()}")
                    service.launch()
            time.sleep(0.1)
