"""What can be hurt: it dies, hangs, and comes back on the same port with the same data."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Victim(ABC):
    """A server or a service that faults are done to. A context manager: it runs inside."""

    name: str

    @abstractmethod
    def start(self) -> None:
        """Start it, or start it again; it is ready when this returns."""

    @abstractmethod
    def kill(self) -> None:
        """End it as a failing machine does; it is gone when this returns."""

    @abstractmethod
    def stop(self) -> None:
        """End it as an operator does; it is gone when this returns."""

    @abstractmethod
    def pause(self) -> None:
        """Make it hang: it keeps its connections and does nothing."""

    @abstractmethod
    def resume(self) -> None:
        """Let it go on after a pause."""

    @abstractmethod
    def is_running(self) -> bool:
        """Return whether its process is there, hanging or not."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_running():
            self.resume()
            self.stop()
