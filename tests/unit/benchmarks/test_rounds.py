from functools import partial

from benchmarks.rounds import in_turn


def test_every_round_runs_every_side_and_begins_with_another() -> None:
    order: list[str] = []
    sides = {name: partial(order.append, name) for name in "abc"}
    in_turn(sides, 4, lambda _: None)
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"


def test_what_a_side_gave_stays_in_the_order_of_the_rounds() -> None:
    numbers = iter(range(6))
    sides = dict.fromkeys("ab", numbers.__next__)
    assert in_turn(sides, 3, lambda _: None) == {"a": [0, 3, 4], "b": [1, 2, 5]}
