from datetime import timedelta

import pytest

from twinlane_sdk.catalogue import Catalogue
from twinlane_sdk.lanes import Lane
from twinlane_sdk.task_spec import Args, Result, TaskSpec


def spec(name: str, lane: Lane) -> TaskSpec[Args, Result]:
    return TaskSpec(
        name=name,
        lane=lane,
        args=Args,
        result=Result,
        summary="Do nothing.",
        deadline=timedelta(seconds=1),
    )


QUICK, HEAVY = spec("io.ask_nobody", Lane.IO), spec("cpu.count_sheep", Lane.CPU)


def test_tasks_are_found_by_their_names_and_keep_their_order() -> None:
    catalogue = Catalogue((QUICK, HEAVY))
    assert catalogue["cpu.count_sheep"] is HEAVY
    assert list(catalogue) == ["io.ask_nobody", "cpu.count_sheep"]
    assert len(catalogue) == 2


def test_lane_has_only_its_own_tasks() -> None:
    assert Catalogue((QUICK, HEAVY)).names_on(Lane.CPU) == {"cpu.count_sheep"}


def test_name_that_two_tasks_have_is_refused_and_named() -> None:
    with pytest.raises(ValueError, match=r"two tasks are named 'io\.ask_nobody'"):
        Catalogue((QUICK, HEAVY, spec("io.ask_nobody", Lane.IO)))
