import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from amqp.exceptions import MessageNacked
from kombu import Connection, Consumer, Message
from pydantic import SecretStr

from api.batches.intake import Item, SubmittedBatch
from api.components import Components, open_components
from api.errors.types import (
    ApiError,
    BrokerUnavailable,
    LaneFull,
    OutcomeUnknown,
    Overloaded,
    ResultsUnavailable,
)
from api.jobs.group_commit import MAX_WAITING
from api.jobs.submission import Submission
from api.settings import ApiSettings
from contracts.keys import record_key
from contracts.records import JobRecord
from contracts.states import JobState
from contracts.topology import LANE_QUEUES
from integration.broker import Broker, headers_of
from integration.jobs import Jobs
from integration.place import Place
from integration.proxy import Proxy, Towards
from servers import eventually
from twinlane_sdk.lanes import Lane
from twinlane_tasks.catalogue import bundled_tasks
from twinlane_tasks.draws import DRAW_NUMBER, DrawArgs
from twinlane_tasks.sums import SUM_NUMBERS, SumArgs

SUM = Submission(SUM_NUMBERS, SumArgs(a=2, b=3))
DRAW = Submission(DRAW_NUMBER, DrawArgs())
QUEUE = Lane.CPU.queue_name
PROMISED_SECONDS = 2.0
MACHINE_SLACK_SECONDS = 0.5  # cores are shared with others
STALL_SECONDS = 1.0  # what blocks the event loop waits for a broker or Redis: 1.5 s and more

Port = Callable[[], AbstractContextManager[int]]


@asynccontextmanager
async def api_in(
    place: Place, settle_seconds: float = 600, results_timeout_seconds: float = 1
) -> AsyncIterator[Components]:
    """Open the API's components; its time limits are those of a deployment."""
    settings = ApiSettings(
        settle_seconds=settle_seconds,
        results_timeout_seconds=results_timeout_seconds,
        broker_url=SecretStr(place.broker_url),
        result_url=SecretStr(place.result_url),
        rabbitmq_management_url=SecretStr(place.management_url),
        storage_url=place.storage_url,
    )
    async with open_components(settings, bundled_tasks()) as components:
        yield components


async def submit(api: Components, submission: Submission) -> JobRecord:
    return (await api.submitter.submit(submission)).record


async def submit_batch(api: Components, items: Sequence[Item]) -> SubmittedBatch:
    async def one_by_one() -> AsyncIterator[Item]:
        for item in items:
            yield item

    return await api.batch_submitter.submit(one_by_one())


@pytest.fixture
def broker(broker: Broker) -> Broker:
    # Declaring all the queues can take longer than a client is kept waiting, on a busy machine.
    broker.declare()
    return broker


@pytest.fixture
async def api(place: Place, broker: Broker) -> AsyncIterator[Components]:  # noqa: ARG001 - declared
    async with api_in(place) as components:
        yield components


@dataclass
class EventLoop:
    """How long the event loop has kept others waiting, at worst."""

    worst_seconds: float = 0

    async def watch(self) -> None:
        while True:
            started = time.monotonic()
            await asyncio.sleep(0.01)
            self.worst_seconds = max(self.worst_seconds, time.monotonic() - started)


@asynccontextmanager
async def promptly() -> AsyncIterator[None]:
    """Fail if the block takes longer than a client is promised, or holds up the event loop."""
    loop = EventLoop()
    watching = asyncio.create_task(loop.watch())
    started = time.monotonic()
    yield
    elapsed = time.monotonic() - started
    watching.cancel()
    assert elapsed < PROMISED_SECONDS + MACHINE_SLACK_SECONDS
    assert loop.worst_seconds < STALL_SECONDS


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@dataclass
class Worker:
    """Takes messages and notes whether each one's record was there when it came."""

    place: Place
    jobs: Jobs
    with_record: list[bool] = field(default_factory=list)

    def take(self, count: int) -> None:
        with Connection(self.place.broker_url) as connection:
            consumer = Consumer(
                connection, LANE_QUEUES, on_message=self._look, accept=["json"], prefetch_count=1
            )
            with consumer:
                while len(self.with_record) < count:
                    connection.drain_events(timeout=30)

    def _look(self, message: Message) -> None:
        self.with_record.append(headers_of(message)["id"] in self.jobs.ids())
        message.ack()


async def test_api_declares_what_jobs_travel_through(place: Place, jobs: Jobs) -> None:
    async with api_in(place) as api:
        await accepted_in_the_end(api, within_seconds=30)
    assert len(jobs.ids()) == 1
    assert Broker(place).ready(QUEUE) == 1


async def test_accepted_job_is_in_its_queue_and_has_a_record(
    api: Components, broker: Broker, jobs: Jobs
) -> None:
    record = await submit(api, SUM)
    assert broker.ready(QUEUE) == 1
    assert jobs.record(record.id) == record
    assert jobs.status(record.id).state is JobState.QUEUED


async def test_message_is_persistent_and_carries_the_job(api: Components, broker: Broker) -> None:
    record = await submit(api, SUM)
    message = broker.take(QUEUE)
    assert message is not None
    properties: dict[str, Any] = message.properties
    assert properties["delivery_mode"] == 2
    assert properties["message_id"] == headers_of(message)["id"] == record.id
    assert message.payload[1] == {"a": 2, "b": 3}


async def test_record_is_there_before_any_worker_gets_the_message(
    place: Place, api: Components, jobs: Jobs
) -> None:
    worker = Worker(place, jobs)
    taking = threading.Thread(target=worker.take, args=[50])
    taking.start()
    await asyncio.gather(*(submit(api, SUM) for _ in range(50)))
    await asyncio.to_thread(taking.join, 30)
    assert worker.with_record == [True] * 50


async def test_record_is_forgotten_when_its_lifetime_is_over(api: Components, jobs: Jobs) -> None:
    record = await submit(api, SUM)
    (kept,) = jobs.redis.keys("twinlane:job:*")
    lifetime = jobs.redis.pttl(kept) / 1_000
    assert lifetime == pytest.approx((record.expires_at - datetime.now(UTC)).total_seconds(), abs=5)


async def test_hundreds_of_submissions_at_once_are_all_accepted(
    api: Components, broker: Broker, jobs: Jobs
) -> None:
    records = await asyncio.gather(*(submit(api, SUM) for _ in range(300)))
    assert broker.ready(QUEUE) == 300
    assert jobs.ids() == {record.id for record in records}


async def test_submission_does_not_wait_for_the_confirms_of_others(
    place: Place, broker: Broker
) -> None:
    with Proxy(place.broker_url) as proxy:
        async with api_in(replace(place, broker_url=proxy.url)) as api:
            await submit(api, SUM)
            proxy.pause(Towards.CLIENT)
            unconfirmed = [asyncio.create_task(submit(api, SUM))]
            assert await asyncio.to_thread(eventually, lambda: broker.ready(QUEUE) == 2, 1)
            unconfirmed.append(asyncio.create_task(submit(api, SUM)))
            assert await asyncio.to_thread(eventually, lambda: broker.ready(QUEUE) == 3, 1)
            proxy.resume()
            await asyncio.gather(*unconfirmed)


async def test_each_job_of_a_group_gets_its_own_answer(
    api: Components, broker: Broker, jobs: Jobs
) -> None:
    await submit(api, SUM)
    broker.delete_queue(Lane.IO.queue_name)
    broker.limit_queue(QUEUE, messages=1)
    assert await asyncio.to_thread(eventually, partial(refuses, broker, QUEUE), 30)
    group = [DRAW, SUM, replace(SUM, run_at=datetime.now(UTC) + timedelta(hours=1)), SUM]
    outcomes = await asyncio.gather(*(submit(api, s) for s in group), return_exceptions=True)
    unroutable, full, accepted, also_full = outcomes
    assert isinstance(unroutable, BrokerUnavailable)
    assert Lane.IO.queue_name in unroutable.detail
    assert isinstance(full, LaneFull)
    assert isinstance(also_full, LaneFull)
    assert isinstance(accepted, JobRecord)
    assert accepted.id in jobs.ids()
    assert len(jobs.ids()) == 2  # the refused ones are forgotten


def refuses(broker: Broker, queue: str) -> bool:
    """Return whether a queue is full; a policy takes effect after a moment."""
    try:
        broker.publish(queue)
    except MessageNacked:
        return True
    return False


async def test_lost_connection_leaves_the_outcome_of_all_who_wait_unknown(
    place: Place, broker: Broker, jobs: Jobs
) -> None:
    with Proxy(place.broker_url) as proxy:
        async with api_in(replace(place, broker_url=proxy.url)) as api:
            await submit(api, SUM)
            proxy.pause(Towards.CLIENT)
            waiting = [asyncio.create_task(submit(api, SUM)) for _ in range(700)]
            assert await asyncio.to_thread(eventually, lambda: broker.ready(QUEUE) == 701)
            proxy.cut()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            unknown = {o.members["job_id"] for o in outcomes if isinstance(o, OutcomeUnknown)}
            assert len(unknown) == 700
            assert unknown <= jobs.ids()
            assert jobs.unconfirmed() == unknown
            proxy.restore()
            proxy.resume()
            await accepted_in_the_end(api)


async def test_submissions_beyond_what_the_process_keeps_are_turned_away(
    place: Place, jobs: Jobs
) -> None:
    with silent_port() as port:
        lost = replace(place, broker_url=f"amqp://user:password@127.0.0.1:{port}//")
        async with api_in(lost) as api:
            outcomes = await asyncio.gather(
                *(submit(api, SUM) for _ in range(MAX_WAITING + 10)), return_exceptions=True
            )
    kinds = Counter(map(type, outcomes))
    assert kinds == {BrokerUnavailable: MAX_WAITING, Overloaded: 10}
    assert jobs.ids() == set()


@pytest.mark.usefixtures("broker")
async def test_more_readers_than_connections_all_get_their_answer(place: Place) -> None:
    # As long as a setting may be: that all are answered is the promise, and cores are shared.
    async with api_in(place, results_timeout_seconds=1.9) as api:
        job = await submit(api, SUM)
        snapshots = await asyncio.gather(*(api.store.snapshot(job.id) for _ in range(500)))
    assert {snapshot.record.id for snapshot in snapshots} == {job.id}


async def test_client_that_gives_up_does_not_disturb_the_others(
    api: Components, broker: Broker, jobs: Jobs
) -> None:
    await submit(api, SUM)
    submissions = [asyncio.create_task(submit(api, SUM)) for _ in range(40)]
    await asyncio.sleep(0)  # let all of them begin
    for given_up in submissions[::2]:
        given_up.cancel()
    outcomes = await asyncio.gather(*submissions, return_exceptions=True)
    accepted = {outcome.id for outcome in outcomes[1::2] if isinstance(outcome, JobRecord)}
    assert len(accepted) == 20
    assert accepted <= jobs.ids()
    assert broker.ready(QUEUE) >= 21


async def test_batch_of_a_thousand_jobs_is_accepted_whole(
    api: Components, broker: Broker, jobs: Jobs
) -> None:
    batch = await submit_batch(api, [SUM] * 1_000)
    assert (batch.accepted, batch.refusals) == (1_000, {})
    known = await api.batches.read(batch.record.id)
    job_ids = await known.job_ids()
    assert len(set(job_ids)) == 1_000
    assert broker.ready(QUEUE) == 1_000
    assert jobs.ids() == set(job_ids)
    assert known.record == batch.record


async def test_batch_does_not_hold_up_other_requests(api: Components) -> None:
    await submit(api, SUM)
    loop = EventLoop()
    watching = asyncio.create_task(loop.watch())
    await submit_batch(api, [SUM] * 1_000)
    watching.cancel()
    assert loop.worst_seconds < STALL_SECONDS


async def test_job_that_no_queue_takes_is_refused_and_leaves_no_record(
    api: Components, broker: Broker, jobs: Jobs
) -> None:
    accepted = await submit(api, SUM)
    broker.delete_queue(QUEUE)
    with pytest.raises(BrokerUnavailable, match=QUEUE):
        await submit(api, SUM)
    assert jobs.ids() == {accepted.id}


async def test_queue_that_somebody_deleted_is_declared_again(
    api: Components, broker: Broker
) -> None:
    await submit(api, SUM)
    broker.delete_queue(QUEUE)
    with pytest.raises(BrokerUnavailable):
        await submit(api, SUM)
    await accepted_in_the_end(api)
    assert broker.ready(QUEUE) == 1


async def test_job_that_its_full_queue_refuses_leaves_no_record(
    api: Components, broker: Broker, jobs: Jobs
) -> None:
    await submit(api, SUM)
    broker.limit_queue(QUEUE, messages=1)

    async def is_full() -> bool:
        try:
            await submit(api, SUM)
        except LaneFull:
            return True
        return False

    async with asyncio.timeout(30):  # the policy takes effect after a moment
        while not await is_full():
            pass
    assert len(jobs.ids()) == broker.ready(QUEUE)


@pytest.mark.parametrize("unavailable", [closed_port, silent_port])
async def test_broker_that_is_down_is_reported_in_time_and_leaves_no_record(
    place: Place, jobs: Jobs, unavailable: Port
) -> None:
    with unavailable() as port:
        lost = replace(place, broker_url=f"amqp://user:password@127.0.0.1:{port}//")
        async with api_in(lost) as api:
            for _ in range(2):
                async with promptly():
                    with pytest.raises(BrokerUnavailable):
                        await submit(api, SUM)
            assert jobs.ids() == set()


@pytest.mark.parametrize("unavailable", [closed_port, silent_port])
async def test_redis_that_is_down_is_reported_in_time_and_nothing_is_queued(
    place: Place, broker: Broker, unavailable: Port
) -> None:
    with unavailable() as port:
        lost = replace(place, result_url=f"redis://127.0.0.1:{port}/0")
        async with api_in(lost) as api, promptly():
            with pytest.raises(ResultsUnavailable):
                await submit(api, SUM)
    assert broker.ready(QUEUE) == 0


async def test_broker_that_falls_silent_leaves_the_outcome_to_the_record(
    place: Place, broker: Broker, jobs: Jobs
) -> None:
    with Proxy(place.broker_url) as proxy:
        async with api_in(replace(place, broker_url=proxy.url)) as api:
            await submit(api, SUM)
            proxy.pause()
            async with promptly():
                with pytest.raises(OutcomeUnknown) as caught:
                    await submit(api, SUM)
            assert caught.value.members["job_id"] in jobs.ids()
            proxy.resume()
            assert await asyncio.to_thread(eventually, lambda: broker.ready(QUEUE) >= 2)
            assert await asyncio.to_thread(eventually, lambda: not jobs.unconfirmed())


async def test_job_whose_message_was_lost_is_queued_once_the_broker_is_back(
    place: Place, broker: Broker, jobs: Jobs
) -> None:
    with Proxy(place.broker_url) as proxy:
        async with api_in(replace(place, broker_url=proxy.url)) as api:
            await submit(api, SUM)
            proxy.pause()
            with pytest.raises(OutcomeUnknown) as caught:
                await submit(api, SUM)
            proxy.cut()  # what it held back is gone
            assert jobs.unconfirmed() == {caught.value.members["job_id"]}
            proxy.restore()
            proxy.resume()
            assert await asyncio.to_thread(eventually, lambda: not jobs.unconfirmed(), 30)
    assert broker.ready(QUEUE) == 2


async def test_job_whose_outcome_is_unknown_is_reconciled_by_the_next_process(
    place: Place, broker: Broker, jobs: Jobs
) -> None:
    with Proxy(place.broker_url) as proxy:
        async with api_in(replace(place, broker_url=proxy.url)) as api:
            await submit(api, SUM)
            proxy.pause()
            with pytest.raises(OutcomeUnknown):
                await submit(api, SUM)
            proxy.cut()
    assert jobs.unconfirmed()
    async with api_in(place):
        assert await asyncio.to_thread(eventually, lambda: not jobs.unconfirmed(), 30)
    assert broker.ready(QUEUE) == 2


async def test_record_that_can_not_be_read_keeps_no_other_job_from_being_reconciled(
    place: Place, broker: Broker, jobs: Jobs
) -> None:
    with Proxy(place.broker_url) as proxy:
        async with api_in(replace(place, broker_url=proxy.url)) as api:
            await submit(api, SUM)
            proxy.pause()
            submissions = [submit(api, SUM) for _ in range(8)]
            outcomes = await asyncio.gather(*submissions, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {OutcomeUnknown}
            proxy.cut()
    unreadable = min(jobs.unconfirmed())
    jobs.redis.set(record_key(unreadable), "{")
    async with api_in(place):
        assert await asyncio.to_thread(eventually, lambda: jobs.unconfirmed() == {unreadable}, 30)
    assert broker.ready(QUEUE) == 8


async def test_job_that_the_broker_never_takes_fails_in_the_end(place: Place, jobs: Jobs) -> None:
    with Proxy(place.broker_url) as proxy:
        async with api_in(replace(place, broker_url=proxy.url), settle_seconds=1) as api:
            await accepted_in_the_end(api, within_seconds=30)
            proxy.pause()
            with pytest.raises(OutcomeUnknown) as caught:
                await submit(api, SUM)
            proxy.cut()
            job_id = caught.value.members["job_id"]
            status = await asyncio.to_thread(jobs.outcome, job_id)
    assert status.failure is not None
    assert (status.failure.code, status.failure.retryable) == ("never-queued", True)
    assert not status.failure.dead_lettered
    assert "Submit it again" in status.failure.detail


async def test_connection_that_fell_silent_is_given_up_and_the_next_job_gets_another(
    place: Place, broker: Broker
) -> None:
    """A half-open connection: the other end is gone and does not close it."""
    with Proxy(place.broker_url) as proxy:
        async with api_in(replace(place, broker_url=proxy.url)) as api:
            await submit(api, SUM)
            proxy.freeze()
            with pytest.raises(OutcomeUnknown):
                await submit(api, SUM)
            await accepted_in_the_end(api)
    assert broker.ready(QUEUE) >= 2


async def test_redis_that_comes_back_is_used_again(place: Place, broker: Broker) -> None:
    with Proxy(place.result_url) as proxy:
        async with api_in(replace(place, result_url=proxy.url)) as api:
            await submit(api, SUM)
            proxy.cut()
            with pytest.raises(ResultsUnavailable):
                await submit(api, SUM)
            proxy.restore()
            await submit(api, SUM)
    assert broker.ready(QUEUE) == 2


async def test_lost_connection_to_the_broker_is_opened_again(place: Place, broker: Broker) -> None:
    with Proxy(place.broker_url) as proxy:
        async with api_in(replace(place, broker_url=proxy.url)) as api:
            await submit(api, SUM)
            proxy.cut()
            with pytest.raises((BrokerUnavailable, OutcomeUnknown)):
                await submit(api, SUM)
            proxy.restore()
            await accepted_in_the_end(api)
    assert broker.ready(QUEUE) >= 2  # what was unknown is queued too


async def test_connection_closed_by_an_operator_is_opened_again(
    api: Components, broker: Broker
) -> None:
    await submit(api, SUM)
    assert await asyncio.to_thread(eventually, lambda: bool(broker.connections()))
    await asyncio.to_thread(broker.close_connections)
    await accepted_in_the_end(api)


async def accepted_in_the_end(api: Components, within_seconds: float = 10) -> None:
    """Submit until the job is accepted; refusals before must be those of an absent broker."""
    async with asyncio.timeout(within_seconds):
        while True:
            try:
                await submit(api, SUM)
            except (BrokerUnavailable, OutcomeUnknown):
                await asyncio.sleep(0.05)
            else:
                return


async def test_delayed_job_waits_in_the_broker_until_it_is_due(
    api: Components, broker: Broker, jobs: Jobs
) -> None:
    due = datetime.now(UTC) + timedelta(seconds=3)
    record = await submit(api, replace(SUM, run_at=due))
    assert jobs.status(record.id).state is JobState.SCHEDULED
    assert broker.ready(QUEUE) == 0
    assert await asyncio.to_thread(eventually, lambda: broker.ready(QUEUE) == 1, 30)
    assert datetime.now(UTC) >= due
    assert jobs.status(record.id).state is JobState.QUEUED


async def test_job_that_was_due_in_the_past_is_queued_at_once(
    api: Components, broker: Broker
) -> None:
    await submit(api, replace(SUM, run_at=datetime.now(UTC) - timedelta(days=1)))
    assert broker.ready(QUEUE) == 1


async def test_batch_that_the_broker_does_not_take_is_refused_and_leaves_no_record(
    place: Place, jobs: Jobs
) -> None:
    with closed_port() as port:
        lost = replace(place, broker_url=f"amqp://user:password@127.0.0.1:{port}//")
        async with api_in(lost) as api:
            with pytest.raises(ApiError):
                await submit_batch(api, [SUM] * 100)
    assert jobs.ids() == set()
