"""The catalogue: all tasks of an installation, by name."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from twinlane_sdk.lanes import Lane
from twinlane_sdk.task_spec import TaskSpec


class Catalogue(Mapping[str, TaskSpec[Any, Any]]):
    """Task specs by name, in the order in which they were given.

    Made once, when a service starts, and passed to what needs it.
    """

    def __init__(self, specs: Iterable[TaskSpec[Any, Any]]) -> None:
        """Collect the specs.

        Raises:
            ValueError: two tasks have one name.

        """
        self._specs: dict[str, TaskSpec[Any, Any]] = {}
        for spec in specs:
            if spec.name in self._specs:
                raise ValueError(f"two tasks are named {spec.name!r}")
            self._specs[spec.name] = spec

    def __getitem__(self, name: str) -> TaskSpec[Any, Any]:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def names_on(self, lane: Lane) -> set[str]:
        """Return the names of the tasks that a lane's workers must implement."""
        return {spec.name for spec in self.values() if spec.lane == lane}
