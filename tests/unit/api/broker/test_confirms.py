import asyncio
from collections import Counter
from functools import partial

import pytest

from api.broker.confirms import Alarms, Outgoing, Window
from api.errors.types import ApiError, BrokerUnavailable, LaneFull, OutcomeUnknown
from contracts.records import new_record
from contracts.schemas import SumArgs
from contracts.tasks import SUM_NUMBERS


class Sending:
    """A window, and what its jobs were told in order: None is a yes."""

    def __init__(self, size: int = 10) -> None:
        self.told: list[tuple[str, type[ApiError] | None]] = []
        self.alarms: Counter[str] = Counter()
        raised = self.alarms.update
        self.window = Window(
            size,
            Alarms(
                refused=lambda: raised(["refused"]),
                unroutable=lambda: raised(["unroutable"]),
                silent=lambda: raised(["silent"]),
            ),
        )

    def send(self, *names: str) -> range:
        return self.window.add([self._job(name) for name in names])

    def _job(self, name: str) -> Outgoing:
        record = new_record(SUM_NUMBERS, SumArgs(a=1, b=2), job_id=name, ttl_seconds=60)
        return Outgoing(record, partial(self._tell, name))

    def _tell(self, name: str, error: ApiError | None) -> None:
        self.told.append((name, type(error) if error else None))


@pytest.fixture
async def sending() -> Sending:
    return Sending()


async def test_confirm_is_for_one_job(sending: Sending) -> None:
    sending.send("a", "b", "c")
    sending.window.confirm(2, multiple=False, accepted=True)
    assert sending.told == [("b", None)]


async def test_confirm_of_many_is_for_all_that_were_sent_before(sending: Sending) -> None:
    sending.send("a", "b")
    sending.send("c", "d")
    sending.window.confirm(2, multiple=False, accepted=True)
    sending.window.confirm(3, multiple=True, accepted=True)
    assert sending.told == [("b", None), ("a", None), ("c", None)]
    assert len(sending.window) == 1


async def test_refusal_is_told_to_its_job_alone(sending: Sending) -> None:
    sending.send("a", "b", "c")
    sending.window.confirm(2, multiple=False, accepted=False)
    sending.window.confirm(3, multiple=True, accepted=True)
    assert sending.told == [("b", LaneFull), ("a", None), ("c", None)]
    assert sending.alarms == {"refused": 1}


async def test_confirm_of_a_returned_message_is_no_yes(sending: Sending) -> None:
    sending.send("a", "b", "c")
    sending.window.returned("b")
    sending.window.confirm(3, multiple=True, accepted=True)
    assert sending.told == [("b", BrokerUnavailable), ("a", None), ("c", None)]
    assert sending.alarms == {"unroutable": 1}
    assert len(sending.window) == 0


async def test_message_that_is_sent_twice_and_returned_twice_is_told_twice(
    sending: Sending,
) -> None:
    sending.send("a", "a")
    sending.window.returned("a")
    sending.window.returned("a")
    assert sending.told == [("a", BrokerUnavailable)] * 2


async def test_silence_of_the_broker_is_told_at_the_deadline_and_only_then(
    sending: Sending,
) -> None:
    tags = sending.send("a", "b")
    sending.send("later")
    sending.window.expire(tags, sent_at=asyncio.get_running_loop().time())
    assert sending.told == [("a", OutcomeUnknown), ("b", OutcomeUnknown)]
    assert sending.alarms == {"silent": 1}
    sending.window.confirm(3, multiple=True, accepted=True)
    assert sending.told[2:] == [("later", None)]


async def test_broker_that_confirmed_others_meanwhile_is_not_silent(sending: Sending) -> None:
    sent_at = asyncio.get_running_loop().time()
    tags = sending.send("a", "b")
    sending.window.confirm(1, multiple=False, accepted=True)
    sending.window.expire(tags, sent_at)
    assert sending.told == [("a", None), ("b", OutcomeUnknown)]
    assert not sending.alarms


async def test_deadline_of_what_was_confirmed_says_nothing(sending: Sending) -> None:
    tags = sending.send("a")
    sending.window.confirm(1, multiple=False, accepted=True)
    sending.window.expire(tags, sent_at=asyncio.get_running_loop().time() + 1)
    assert sending.told == [("a", None)]
    assert not sending.alarms


async def test_lost_connection_is_told_to_all_that_wait(sending: Sending) -> None:
    sending.send("a", "b", "c")
    sending.window.confirm(1, multiple=False, accepted=True)
    sending.window.lose()
    assert sending.told == [("a", None), ("b", OutcomeUnknown), ("c", OutcomeUnknown)]
    assert len(sending.window) == 0


async def test_full_window_makes_wait_until_the_broker_has_confirmed() -> None:
    sending = Sending(size=3)
    sending.send("a", "b")
    await sending.window.room(1)
    waiting = asyncio.create_task(sending.window.room(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    sending.window.confirm(1, multiple=False, accepted=True)
    await waiting


async def test_queue_that_says_nothing_does_not_keep_the_window_full() -> None:
    sending = Sending(size=2)
    tags = sending.send("a", "b")
    sending.window.expire(tags, sent_at=0)
    await sending.window.room(2)
    sending.send("c")
    sending.window.confirm(3, multiple=True, accepted=True)  # of all three, late
    assert sending.told == [("a", OutcomeUnknown), ("b", OutcomeUnknown), ("c", None)]
    assert len(sending.window) == 0


async def test_group_larger_than_the_window_gets_it_for_itself() -> None:
    sending = Sending(size=3)
    await sending.window.room(4)
    sending.send("a")
    waiting = asyncio.create_task(sending.window.room(4))
    await asyncio.sleep(0)
    assert not waiting.done()
    sending.window.lose()
    await waiting
