import random

import pytest

from twinlane_sdk.errors import RetryableError
from worker_io.draws import draw


class Loaded(random.Random):
    """Draws what it was told."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def randint(self, a: int, b: int) -> int:
        assert a <= self.number <= b
        return self.number


@pytest.mark.parametrize("number", range(7, 11))
def test_seven_and_more_is_the_result(number: int) -> None:
    assert draw(Loaded(number)) == number


@pytest.mark.parametrize("number", range(1, 7))
def test_six_and_less_is_a_retry_that_names_the_number(number: int) -> None:
    with pytest.raises(RetryableError, match=f"^drew {number}; 7 or more is needed$"):
        draw(Loaded(number))
