"""Dead letters over HTTP: looked at, requeued, discarded."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from amqp.exceptions import MessageNacked

from api.dead_letters.message import RequeuedMessage
from api.dead_letters.queue import DeadLetterQueue
from contracts.keys import record_key
from contracts.states import JobState
from contracts.topology import DELIVERY_LIMIT
from integration.broker import Broker, headers_of
from integration.jobs import Jobs
from integration.place import Place, new_place
from integration.proxy import Proxy
from integration.services import run_api, run_lane_worker
from servers import RabbitMQ, Redis, eventually
from twinlane_sdk.lanes import Lane
from twinlane_tasks.catalogue import bundled_tasks
from twinlane_tasks.http import FETCH_URL
from twinlane_tasks.reports import SEND_REPORT
from twinlane_tasks.sums import SUM_NUMBERS

LETTERS = "/v1/dead-letters"
READINGS = 1_000
BROKER_SECONDS = 1.5
FAR_AWAY = "http://answers.test/"


@pytest.fixture(scope="module")
def place(
    rabbitmq: RabbitMQ, redis: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """One place for all tests here; each begins with empty queues."""
    with new_place(rabbitmq, redis, tmp_path_factory.mktemp("dead")) as place:
        Broker(place).declare()
        yield place


@pytest.fixture(scope="module")
def running_api(place: Place) -> Iterator[httpx2.Client]:
    with run_api(place) as client:
        yield client


@pytest.fixture
def broker(place: Place) -> Broker:
    broker = Broker(place)
    for queue in ("jobs.io", "jobs.cpu", "jobs.dead", "jobs.dead.notices"):
        broker.purge(queue)
    return broker


@pytest.fixture
def api(running_api: httpx2.Client, broker: Broker) -> httpx2.Client:  # noqa: ARG001 - emptied
    return running_api


def letters(api: httpx2.Client, **parameters: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON
    answer = api.get(LETTERS, params=parameters)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["dead_letters"]
    return found


def requeue(api: httpx2.Client, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answer = api.post(f"{LETTERS}/requeue", json=body)
    assert answer.status_code == 202, answer.text
    outcome: dict[str, Any] = answer.json()
    return outcome


def discard(api: httpx2.Client, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answer = api.post(f"{LETTERS}/discard", json=body)
    assert answer.status_code == 202, answer.text
    outcome: dict[str, Any] = answer.json()
    return outcome


def die(broker: Broker, jobs: Jobs, url: str = FAR_AWAY) -> str:
    """Have a job die in its lane; return its id once that is shown."""
    job_id = jobs.submit(FETCH_URL, url=url)
    broker.reject("jobs.io")
    jobs.wait_for(job_id, JobState.FAILED)
    return job_id


def fail(jobs: Jobs, *urls: str) -> list[str]:
    """Have jobs fail, with a worker there; return their ids."""
    ids = [jobs.submit(FETCH_URL, url=url) for url in urls]
    for job_id in ids:
        jobs.wait_for(job_id, JobState.FAILED)
    return ids


def fill(broker: Broker, queue: str) -> None:
    """Publish until the queue refuses: a policy takes effect after a moment."""

    def is_full() -> bool:
        try:
            broker.publish(queue)
        except MessageNacked:
            return True
        return False

    assert eventually(is_full, 30)


def open_gate(place: Place, gate: str) -> None:
    (place.folder / f"{gate}.open").touch()


def test_letter_shows_what_died_where_and_why(
    place: Place, api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    with run_lane_worker(place, Lane.IO):
        (job_id,) = fail(jobs, "http://rejects.test/")
        assert eventually(lambda: broker.ready("jobs.dead") == 1)
    (letter,) = letters(api)
    assert letter["job"] == job_id
    assert (letter["task"], letter["queue"]) == ("io.fetch_url", "jobs.io")
    assert (letter["reason"], letter["deaths"], letter["requeues"]) == ("rejected", 1, 0)
    assert letter["job_state"] == "failed"
    assert letter["error"] == {"type": "RejectedError", "message": "this will never work"}
    assert datetime.fromisoformat(letter["submitted_at"]) == jobs.record(job_id).submitted_at
    died_at = datetime.fromisoformat(letter["died_at"])
    assert abs(datetime.now(UTC) - died_at) < timedelta(minutes=1)


def test_death_by_the_delivery_limit_is_shown_with_its_count(
    api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    jobs.submit(SUM_NUMBERS, a=1, b=2)
    broker.die_with("jobs.cpu")
    (letter,) = letters(api)
    assert (letter["reason"], letter["deliveries"]) == ("delivery_limit", DELIVERY_LIMIT + 1)


def test_death_of_a_job_that_was_tried_again_is_its_last(
    place: Place, api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    """Its message expired in a delay queue before, and says so first."""
    with run_lane_worker(place, Lane.IO):
        fail(jobs, "http://fails-before.test/99")
        assert eventually(lambda: broker.ready("jobs.dead") == 1)
    (letter,) = letters(api)
    assert (letter["reason"], letter["queue"]) == ("rejected", "jobs.io")


def test_messages_that_nobody_can_read_are_listed_with_what_is_known(
    api: httpx2.Client, broker: Broker
) -> None:
    broker.publish("jobs.io", "!", None)
    broker.reject("jobs.io")
    broker.publish("jobs.io", "[[], {}, {}]", {"id": "stranger", "task": "io.unheard_of"})
    broker.reject("jobs.io")
    tasks = {letter["task"]: letter for letter in letters(api)}
    assert set(tasks) == {None, "io.unheard_of"}
    assert tasks["io.unheard_of"]["job"] == "stranger"
    assert [letter["job_state"] for letter in tasks.values()] == [None, None]
    assert [letter["reason"] for letter in tasks.values()] == ["rejected", "rejected"]


def test_reading_a_thousand_times_leaves_every_letter(
    api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    for _ in range(3):
        die(broker, jobs)
    first = letters(api)
    for _ in range(READINGS):
        assert letters(api) == first
    assert broker.ready("jobs.dead") == 3


def test_many_readers_of_two_apis_all_see_every_letter(
    place: Place, api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    for _ in range(3):
        die(broker, jobs)
    first = letters(api)
    with run_api(place) as other, ThreadPoolExecutor(4) as readers:
        seen = [readers.submit(letters, (api, other)[n % 2]) for n in range(20)]
        assert all(reader.result() == first for reader in seen)


async def test_readers_are_told_that_another_holds_the_letters_for_long(
    place: Place, api: httpx2.Client
) -> None:
    async with DeadLetterQueue(place.broker_url, BROKER_SECONDS).hold():
        answer = await asyncio.to_thread(api.get, LETTERS)
    assert answer.status_code == 503
    assert answer.json()["code"] == "dead-letters-busy"
    assert "Retry-After" in answer.headers
    assert (await asyncio.to_thread(api.get, LETTERS)).status_code == 200


async def test_letters_of_a_reader_who_was_cut_off_come_back(
    place: Place, api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    await asyncio.to_thread(die, broker, jobs)
    with Proxy(place.broker_url) as proxy:
        async with DeadLetterQueue(proxy.url, BROKER_SECONDS).hold() as hold:
            assert len(hold.letters) == 1
            proxy.cut()
    assert await asyncio.to_thread(eventually, lambda: len(letters(api)) == 1)


def test_letters_are_listed_newest_first_and_up_to_the_limit(
    api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    for _ in range(3):
        die(broker, jobs)
    answer = api.get(LETTERS, params={"limit": 2}).json()
    assert (answer["total"], answer["matching"], answer["truncated"]) == (3, 3, False)
    died = [letter["died_at"] for letter in answer["dead_letters"]]
    assert len(died) == 2
    assert died == sorted(died, reverse=True)


def test_filters_mean_what_they_say(api: httpx2.Client, broker: Broker, jobs: Jobs) -> None:
    job_id = die(broker, jobs)
    jobs.submit(SUM_NUMBERS, a=1, b=2)
    broker.die_with("jobs.cpu")
    (mine,) = [letter for letter in letters(api) if letter["job"] == job_id]
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for parameters in (
        {"task": "io.fetch_url"},
        {"reason": "rejected"},
        {"fingerprint": mine["fingerprint"]},
        {"task": "io.fetch_url", "died_before": soon},
    ):
        assert letters(api, **parameters) == [mine]
    assert letters(api, died_after=soon) == []
    assert letters(api, task="io.fetch_url", reason="delivery_limit") == []
    assert api.get(LETTERS, params={"taks": "io.fetch_url"}).status_code == 422


def test_groups_put_together_what_died_of_the_same_cause(
    place: Place, api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    with run_lane_worker(place, Lane.IO):
        fail(jobs, *[f"http://fails-before.test/{n}" for n in range(90, 94)], "http://breaks.test/")
        assert eventually(lambda: broker.ready("jobs.dead") == 5)
    answer = api.get(LETTERS, params={"group": "fingerprint"}).json()
    frequent, rare = answer["groups"]
    assert (answer["total"], frequent["count"], rare["count"]) == (5, 4, 1)
    assert frequent["error"]["type"] == "RetryableError"
    assert rare["error"] == {"type": "ZeroDivisionError", "message": "a bug"}
    assert len(frequent["examples"]) == 3
    found = letters(api, fingerprint=frequent["fingerprint"])
    assert {letter["id"] for letter in found} >= set(frequent["examples"])


def test_requeued_job_runs_again_and_keeps_its_history(
    place: Place, api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    with run_lane_worker(place, Lane.IO):
        (job_id,) = fail(jobs, "http://rejects-until.test/mended")
        assert eventually(lambda: broker.ready("jobs.dead") == 1)
        (letter,) = letters(api)
        open_gate(place, "mended")
        outcome = requeue(api, ids=[letter["id"]])
        assert outcome["requeued"] == [{"id": letter["id"], "job": job_id}]
        jobs.wait_for(job_id, JobState.SUCCEEDED)
    shown = api.get(f"/v1/jobs/{job_id}").json()
    assert [(attempt["requeues"], bool(attempt["error"])) for attempt in shown["attempts"]] == [
        (0, True),
        (1, False),
    ]
    assert letters(api) == []


def test_requeued_job_is_queued_until_a_worker_takes_it(
    api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    job_id = die(broker, jobs)
    requeue(api, filter={"task": "io.fetch_url"})
    assert jobs.status(job_id).state is JobState.QUEUED
    message = broker.take("jobs.io")
    assert message is not None
    headers = headers_of(message)
    assert (headers["requeues"], headers["retries"], headers["id"]) == (1, 0, job_id)
    assert not [name for name in headers if "death" in name]
    properties: dict[str, Any] = message.properties
    assert properties["delivery_mode"] == 2


def test_requeued_job_that_dies_again_is_failed_again(
    api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    job_id = die(broker, jobs)
    for requeues in (1, 2):
        requeue(api, filter={"reason": "rejected"})
        assert jobs.status(job_id).state is JobState.QUEUED
        broker.reject("jobs.io")
        jobs.wait_for(job_id, JobState.FAILED)
        (letter,) = letters(api)
        assert (letter["job"], letter["requeues"]) == (job_id, requeues)


def test_job_of_several_stages_is_requeued_whole(
    place: Place, api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    job_id = jobs.submit(SEND_REPORT, email="a@empresa.com", report_type="vendas")
    broker.reject("jobs.cpu")
    jobs.wait_for(job_id, JobState.FAILED)
    requeue(api, filter={"task": "cpu.render_report"})
    assert jobs.status(job_id).state is JobState.QUEUED
    with run_lane_worker(place, Lane.CPU, concurrency=1), run_lane_worker(place, Lane.IO):
        jobs.wait_for(job_id, JobState.SUCCEEDED)
    assert {attempt.requeues for attempt in jobs.attempts(job_id)} == {1}


def test_requeued_job_can_be_cancelled_before_it_runs(
    api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    job_id = die(broker, jobs)
    requeue(api, filter={"reason": "rejected"})
    assert api.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert jobs.status(job_id).state is JobState.CANCELLED


def test_requeue_overrides_an_earlier_cancel(
    place: Place, api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    job_id = die(broker, jobs)
    jobs.cancel(job_id)
    requeue(api, filter={"reason": "rejected"})
    with run_lane_worker(place, Lane.IO):
        assert jobs.outcome(job_id).state is JobState.SUCCEEDED


def test_requeued_job_is_known_for_as_long_as_a_new_one(
    api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    job_id = die(broker, jobs)
    jobs.redis.expire(record_key(job_id), 60)
    requeue(api, filter={"reason": "rejected"})
    lifetime = jobs.redis.ttl(record_key(job_id))
    assert isinstance(lifetime, int)
    assert lifetime > 24 * 3600


def test_canary_that_fails_stops_the_others(
    place: Place, api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    with run_lane_worker(place, Lane.IO):
        fail(jobs, *["http://rejects.test/"] * 3)
        assert eventually(lambda: broker.ready("jobs.dead") == 3)
        outcome = requeue(api, filter={"task": "io.fetch_url"}, canary=1)
        assert (outcome["canary"], len(outcome["requeued"]), outcome["left"]) == ("failed", 1, 2)
        assert eventually(lambda: broker.ready("jobs.dead") == 3)
    assert sorted(letter["requeues"] for letter in letters(api)) == [0, 0, 1]


def test_canary_that_succeeds_requeues_the_others(
    place: Place, api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    with run_lane_worker(place, Lane.IO):
        failed = fail(jobs, *["http://rejects-until.test/mended-again"] * 5)
        assert eventually(lambda: broker.ready("jobs.dead") == 5)
        open_gate(place, "mended-again")
        outcome = requeue(api, filter={"task": "io.fetch_url"}, canary=2)
        assert (outcome["canary"], len(outcome["requeued"]), outcome["left"]) == ("succeeded", 5, 0)
        for job_id in failed:
            jobs.wait_for(job_id, JobState.SUCCEEDED)
    assert letters(api) == []


def test_limit_takes_the_oldest_and_counts_what_is_left(
    api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    oldest = die(broker, jobs)
    for _ in range(2):
        die(broker, jobs)
    outcome = requeue(api, filter={"task": "io.fetch_url"}, limit=1)
    assert [letter["job"] for letter in outcome["requeued"]] == [oldest]
    assert outcome["left"] == len(letters(api)) == 2


def test_discarded_letter_is_gone_and_its_job_stays_failed(
    api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    kept, gone = die(broker, jobs), die(broker, jobs)
    (letter_id,) = [letter["id"] for letter in letters(api) if letter["job"] == gone]
    assert discard(api, ids=[letter_id])["discarded"] == [{"id": letter_id, "job": gone}]
    assert [letter["job"] for letter in letters(api)] == [kept]
    assert jobs.status(gone).state is JobState.FAILED


def test_filter_discards_what_it_lists(api: httpx2.Client, broker: Broker, jobs: Jobs) -> None:
    die(broker, jobs)
    broker.publish("jobs.io", "!", None)
    broker.reject("jobs.io")
    (strange,) = [letter for letter in letters(api) if letter["job"] is None]
    outcome = discard(api, filter={"fingerprint": strange["fingerprint"]})
    assert [letter["id"] for letter in outcome["discarded"]] == [strange["id"]]
    assert len(letters(api)) == 1


def test_what_can_not_run_is_refused_by_name_and_stays(
    api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    expired, fine = die(broker, jobs), die(broker, jobs)
    unreadable = jobs.submit(FETCH_URL, url=FAR_AWAY)
    message = broker.take("jobs.io")
    assert message is not None
    broker.publish("jobs.io", "{ this is no JSON", headers_of(message))
    broker.reject("jobs.io")
    jobs.wait_for(unreadable, JobState.FAILED)
    unknown = jobs.submit(FETCH_URL, url=FAR_AWAY)
    message = broker.take("jobs.io")
    assert message is not None
    broker.publish("jobs.io", "[[], {}, {}]", headers_of(message) | {"task": "io.unheard_of"})
    broker.reject("jobs.io")
    jobs.wait_for(unknown, JobState.FAILED)
    jobs.redis.delete(record_key(expired))
    jobs_of = {letter["id"]: letter["job"] for letter in letters(api)}
    outcome = requeue(api, ids=[*jobs_of, "nonsense"])
    assert [letter["job"] for letter in outcome["requeued"]] == [fine]
    codes = {
        jobs_of.get(refused["id"], refused["id"]): refused["problem"]["code"]
        for refused in outcome["refused"]
    }
    assert codes == {
        expired: "job-not-found",
        unreadable: "dead-letter-not-requeueable",
        unknown: "dead-letter-not-requeueable",
        "nonsense": "dead-letter-not-found",
    }
    assert len(letters(api)) == 3


@pytest.mark.parametrize("action", ["requeue", "discard"])
def test_ids_that_are_all_unknown_are_not_found(api: httpx2.Client, action: str) -> None:
    answer = api.post(f"{LETTERS}/{action}", json={"ids": ["nonsense"]})
    assert answer.status_code == 404
    assert answer.json()["code"] == "dead-letter-not-found"


@pytest.mark.parametrize("action", ["requeue", "discard"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ids": []},
        {"filter": {}},
        {"filter": {"task": None}},
        {"ids": ["a"], "filter": {"task": "io.fetch_url"}},
        {"ids": ["a"], "limit": 0},
        {"filter": {"taks": "io.fetch_url"}},
        {"ids": ["a"], "canary": 0},
    ],
)
def test_selection_that_may_mean_anything_is_refused(
    api: httpx2.Client, action: str, body: dict[str, Any]
) -> None:
    assert api.post(f"{LETTERS}/{action}", json=body).status_code == 422


def test_letter_stays_when_its_lane_is_full(api: httpx2.Client, broker: Broker, jobs: Jobs) -> None:
    job_id = die(broker, jobs)
    with broker.limited_queue("jobs.io", messages=1):
        fill(broker, "jobs.io")
        answer = api.post(f"{LETTERS}/requeue", json={"filter": {"reason": "rejected"}})
    assert (answer.status_code, answer.json()["code"]) == (503, "lane-full")
    assert [letter["job"] for letter in letters(api)] == [job_id]
    assert jobs.status(job_id).state is JobState.FAILED


async def test_crash_between_publishing_and_deleting_leaves_both_and_loses_nothing(
    place: Place, api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    job_id = await asyncio.to_thread(die, broker, jobs)
    with Proxy(place.broker_url) as proxy:
        async with DeadLetterQueue(proxy.url, BROKER_SECONDS).hold() as hold:
            (letter,) = hold.letters
            await hold.publish(RequeuedMessage.of(bundled_tasks(), letter, job_id, 1))
            proxy.cut()
    assert broker.ready("jobs.io") == 1
    (left,) = await asyncio.to_thread(letters, api)
    with run_lane_worker(place, Lane.IO):
        jobs.wait_for(job_id, JobState.SUCCEEDED)
    outcome = await asyncio.to_thread(requeue, api, ids=[left["id"]])
    assert outcome["requeued"] == []
    assert "only a failed job" in outcome["refused"][0]["problem"]["detail"]


def test_letters_can_not_be_shown_while_redis_is_away(
    place: Place, broker: Broker, jobs: Jobs
) -> None:
    job_id = jobs.submit(FETCH_URL, url=FAR_AWAY)
    broker.reject("jobs.io")
    with Proxy(place.result_url) as proxy, run_api(replace(place, result_url=proxy.url)) as api:
        jobs.wait_for(job_id, JobState.FAILED)
        proxy.cut()
        for answer in (
            api.get(LETTERS),
            api.post(f"{LETTERS}/requeue", json={"filter": {"reason": "rejected"}}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "results-unavailable")
        proxy.restore()
        assert len(letters(api)) == 1


def test_broker_that_is_away_is_noticed_in_time(place: Place, broker: Broker) -> None:  # noqa: ARG001 - declared
    with Proxy(place.broker_url) as proxy, run_api(replace(place, broker_url=proxy.url)) as api:
        for away in (proxy.pause, proxy.cut):
            away()
            started = datetime.now(UTC)
            answer = api.get(LETTERS)
            assert (answer.status_code, answer.json()["code"]) == (503, "broker-unavailable")
            assert datetime.now(UTC) - started < timedelta(seconds=3)
