"""Both sides of a comparison in turn, several times."""

from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def in_turn(
    sides: Mapping[str, Callable[[], T]], rounds: int, say: Callable[[str], None]
) -> dict[str, list[T]]:
    """Run every side once in each round and return what each gave, round by round.

    Each round begins with another side, so that none always follows the same one.
    """
    names = list(sides)
    given: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            say(f"round {number + 1} of {rounds}: {name}")
            given[name].append(sides[name]())
    return given
