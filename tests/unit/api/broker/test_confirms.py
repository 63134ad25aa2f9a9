import asyncio
from collections import Counter

import pytest

from api.broker.confirms import ConfirmListener, PendingConfirms
from api.broker.pending_job import PendingJob
from api.errors.types import ApiError, BrokerUnavailable, LaneFull, OutcomeUnknown
from contracts.records import JobRecord, new_record
from twinlane_tasks.sums import SUM_NUMBERS, SumArgs

Outcomes = list[tuple[str, type[ApiError] | None]]


class NotedJob(PendingJob):
    """A job that notes its outcome: None if the broker has it."""

    __slots__ = ("_outcomes",)

    def __init__(self, record: JobRecord, outcomes: Outcomes) -> None:
        super().__init__(record, deadline=0)
        self._outcomes = outcomes

    def resolve(self, error: ApiError | None) -> None:
        self._outcomes.append((self.record.id, type(error) if error else None))
        super().resolve(error)


class Sending:
    """Pending confirms, with the outcomes of their jobs in order, and calls of the listener."""

    def __init__(self, size: int = 10) -> None:
        self.outcomes: Outcomes = []
        self.calls: Counter[str] = Counter()
        note = self.calls.update
        self.confirms = PendingConfirms(
            size,
            ConfirmListener(
                refused=lambda: note(["refused"]),
                unroutable=lambda: note(["unroutable"]),
                silent=lambda: note(["silent"]),
            ),
        )

    def send(self, *names: str) -> range:
        return self.confirms.add([self._job(name) for name in names])

    def _job(self, name: str) -> PendingJob:
        record = new_record(SUM_NUMBERS, SumArgs(a=1, b=2), job_id=name, ttl_seconds=60)
        return NotedJob(record, self.outcomes)


@pytest.fixture
async def sending() -> Sending:
    return Sending()


async def test_confirm_is_for_one_job(sending: Sending) -> None:
    sending.send("a", "b", "c")
    sending.confirms.confirm(2, multiple=False, accepted=True)
    assert sending.outcomes == [("b", None)]


async def test_confirm_of_many_is_for_all_that_were_sent_before(sending: Sending) -> None:
    sending.send("a", "b")
    sending.send("c", "d")
    sending.confirms.confirm(2, multiple=False, accepted=True)
    sending.confirms.confirm(3, multiple=True, accepted=True)
    assert sending.outcomes == [("b", None), ("a", None), ("c", None)]
    assert len(sending.confirms) == 1


async def test_refusal_is_of_its_job_alone(sending: Sending) -> None:
    sending.send("a", "b", "c")
    sending.confirms.confirm(2, multiple=False, accepted=False)
    sending.confirms.confirm(3, multiple=True, accepted=True)
    assert sending.outcomes == [("b", LaneFull), ("a", None), ("c", None)]
    assert sending.calls == {"refused": 1}


async def test_confirm_of_a_returned_message_changes_nothing(sending: Sending) -> None:
    sending.send("a", "b", "c")
    sending.confirms.returned("b", "jobs.io")
    sending.confirms.confirm(3, multiple=True, accepted=True)
    assert sending.outcomes == [("b", BrokerUnavailable), ("a", None), ("c", None)]
    assert sending.calls == {"unroutable": 1}
    assert len(sending.confirms) == 0


async def test_message_that_is_sent_twice_and_returned_twice_is_refused_twice(
    sending: Sending,
) -> None:
    sending.send("a", "a")
    sending.confirms.returned("a", "jobs.io")
    sending.confirms.returned("a", "jobs.io")
    assert sending.outcomes == [("a", BrokerUnavailable)] * 2


async def test_what_the_broker_leaves_unanswered_is_unknown_at_the_deadline_and_only_then(
    sending: Sending,
) -> None:
    tags = sending.send("a", "b")
    sending.send("later")
    sending.confirms.expire(tags, sent_at=asyncio.get_running_loop().time())
    assert sending.outcomes == [("a", OutcomeUnknown), ("b", OutcomeUnknown)]
    assert sending.calls == {"silent": 1}
    sending.confirms.confirm(3, multiple=True, accepted=True)
    assert sending.outcomes[2:] == [("later", None)]


async def test_broker_that_confirmed_others_meanwhile_is_not_silent(sending: Sending) -> None:
    sent_at = asyncio.get_running_loop().time()
    tags = sending.send("a", "b")
    sending.confirms.confirm(1, multiple=False, accepted=True)
    sending.confirms.expire(tags, sent_at)
    assert sending.outcomes == [("a", None), ("b", OutcomeUnknown)]
    assert not sending.calls


async def test_deadline_changes_nothing_for_what_was_confirmed(sending: Sending) -> None:
    tags = sending.send("a")
    sending.confirms.confirm(1, multiple=False, accepted=True)
    sending.confirms.expire(tags, sent_at=asyncio.get_running_loop().time() + 1)
    assert sending.outcomes == [("a", None)]
    assert not sending.calls


async def test_lost_connection_leaves_all_that_wait_unknown(sending: Sending) -> None:
    sending.send("a", "b", "c")
    sending.confirms.confirm(1, multiple=False, accepted=True)
    sending.confirms.lose()
    assert sending.outcomes == [("a", None), ("b", OutcomeUnknown), ("c", OutcomeUnknown)]
    assert len(sending.confirms) == 0


async def test_no_more_are_sent_than_may_be_pending_until_the_broker_has_confirmed() -> None:
    sending = Sending(size=3)
    sending.send("a", "b")
    await sending.confirms.room(1)
    waiting = asyncio.create_task(sending.confirms.room(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    sending.confirms.confirm(1, multiple=False, accepted=True)
    await waiting


async def test_queue_that_confirms_nothing_does_not_keep_others_from_being_sent() -> None:
    sending = Sending(size=2)
    tags = sending.send("a", "b")
    sending.confirms.expire(tags, sent_at=0)
    await sending.confirms.room(2)
    sending.send("c")
    sending.confirms.confirm(3, multiple=True, accepted=True)  # of all three, late
    assert sending.outcomes == [("a", OutcomeUnknown), ("b", OutcomeUnknown), ("c", None)]
    assert len(sending.confirms) == 0


async def test_group_larger_than_the_bound_is_sent_when_nothing_else_is_pending() -> None:
    sending = Sending(size=3)
    await sending.confirms.room(4)
    sending.send("a")
    waiting = asyncio.create_task(sending.confirms.room(4))
    await asyncio.sleep(0)
    assert not waiting.done()
    sending.confirms.lose()
    await waiting
