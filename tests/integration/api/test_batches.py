"""Batches that are submitted while they come in, read cheaply, and waited for."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from contracts.keys import ends_channel
from contracts.messages import BATCH_HEADER
from contracts.states import JobState
from integration.broker import Broker, headers_of
from integration.jobs import Jobs
from integration.lane_worker import NO_SALES
from integration.place import Place, new_place
from integration.proxy import Proxy
from integration.services import run_api, run_lane_worker
from servers import RabbitMQ, Redis, eventually
from twinlane_sdk.lanes import Lane

BATCHES = "/v1/batches"
NDJSON = {"Content-Type": "application/x-ndjson"}
SUM = {"task": "cpu.sum_numbers", "args": {"a": 2, "b": 3}}
MANY = 600
"""Items of more than one chunk, so that some are on their way while others come in."""
TOO_MANY = 1_001


@pytest.fixture(scope="module")
def place(
    rabbitmq: RabbitMQ, redis: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    with new_place(rabbitmq, redis, tmp_path_factory.mktemp("batches")) as place:
        Broker(place).declare()
        yield place


@pytest.fixture(scope="module")
def api(place: Place) -> Iterator[httpx2.Client]:
    with run_api(place, fetch_allowed_hosts="*.test", max_batch_items=TOO_MANY - 1) as client:
        yield client


@pytest.fixture(autouse=True)
def broker(place: Place) -> Broker:
    """Queues without what tests before have left."""
    broker = Broker(place)
    for lane in Lane:
        broker.purge(lane.queue_name)
    return broker


@pytest.fixture
def known(jobs: Jobs) -> set[str]:
    """The jobs of tests before."""
    return jobs.ids()


def fetch(behaviour: str) -> dict[str, Any]:
    return {"task": "io.fetch_url", "args": {"url": f"http://{behaviour}.test/"}}


def lines(items: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def submit(api: httpx2.Client, *items: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = api.post(BATCHES, json=items, headers=headers)
    assert answer.status_code == 202, answer.text
    accepted: dict[str, Any] = answer.json()
    return accepted


def view(api: httpx2.Client, batch_id: str, **parameters: int) -> dict[str, Any]:
    answer = api.get(f"{BATCHES}/{batch_id}", params=parameters)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


# --- while it comes in ---


def test_jobs_are_queued_while_the_rest_of_their_batch_comes_in(
    api: httpx2.Client, broker: Broker
) -> None:
    def body() -> Iterator[bytes]:
        yield lines([SUM] * MANY)
        assert eventually(lambda: broker.ready("jobs.cpu") > 0, 30)
        yield lines([SUM] * 300)

    answer = api.post(BATCHES, content=body(), headers=NDJSON)

    assert answer.status_code == 202
    assert (answer.json()["accepted"], answer.json()["refused"]) == (900, 0)
    shown = view(api, answer.json()["id"])
    assert (shown["reception"], shown["counts"]) == ("complete", {"queued": 900})
    assert [job["id"] for job in shown["jobs"]] == [item["id"] for item in answer.json()["items"]]
    assert broker.ready("jobs.cpu") == 900


def test_short_body_that_breaks_off_leaves_nothing(
    api: httpx2.Client, jobs: Jobs, known: set[str]
) -> None:
    answer = api.post(BATCHES, content=json.dumps([SUM] * 5).encode()[:-1])
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-body")
    assert "batch" not in answer.json()
    assert jobs.ids() == known


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (json.dumps([SUM] * MANY)[:-1] + ", oops]", 400, "malformed-body"),
        (json.dumps([SUM] * TOO_MANY), 422, "invalid-request"),
    ],
    ids=["no JSON", "too many items"],
)
def test_batch_that_breaks_off_is_cancelled_and_says_so(
    api: httpx2.Client, body: str, status: int, code: str
) -> None:
    answer = api.post(BATCHES, content=body.encode())

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert problem["accepted"] >= 250
    assert "cancelled" in problem["detail"]
    shown = view(api, problem["batch"])
    assert (shown["reception"], shown["state"]) == ("broken_off", "cancelled")
    assert shown["counts"] == {"cancelled": problem["accepted"]}


def test_batch_whose_client_goes_away_in_the_middle_is_cancelled(
    api: httpx2.Client, jobs: Jobs, known: set[str]
) -> None:
    class GoneError(Exception):
        pass

    def body() -> Iterator[bytes]:
        yield lines([SUM] * MANY)
        assert eventually(lambda: jobs.ids() > known, 30)
        raise GoneError

    with pytest.raises(GoneError), httpx2.Client(base_url=api.base_url) as client:
        client.post(BATCHES, content=body(), headers=NDJSON)

    (batch_id,) = {jobs.record(job_id).batch for job_id in jobs.ids() - known}
    assert batch_id
    assert eventually(lambda: view(api, batch_id)["reception"] == "broken_off", 30)
    assert eventually(lambda: view(api, batch_id)["state"] == "cancelled", 30)


def test_broker_that_is_lost_in_the_middle_costs_the_rest_of_the_batch(
    place: Place, jobs: Jobs
) -> None:
    with Proxy(place.broker_url) as proxy:
        through_it = replace(place, broker_url=proxy.url)
        with run_api(through_it, max_batch_items=TOO_MANY) as api:
            submit(api, SUM)
            before = jobs.ids()

            def body() -> Iterator[bytes]:
                yield lines([SUM] * 250)
                assert eventually(lambda: len(jobs.ids()) == len(before) + 250, 30)
                assert eventually(lambda: Broker(place).ready("jobs.cpu") >= 251, 30)
                proxy.cut()
                yield lines([SUM] * (MANY - 250))

            answer = api.post(BATCHES, content=body(), headers=NDJSON)
            proxy.restore()
            assert answer.status_code == 202, answer.text
            accepted = answer.json()
            assert (accepted["accepted"], accepted["refused"]) == (250, MANY - 250)
            codes = {item["problem"]["code"] for item in accepted["items"][250:]}
            assert codes <= {"broker-unavailable", "outcome-unknown"}
            assert eventually(lambda: not jobs.unconfirmed(), 30)


def test_redis_that_is_lost_in_the_middle_costs_the_rest_of_the_batch(
    place: Place, jobs: Jobs, broker: Broker
) -> None:
    with Proxy(place.result_url) as proxy:
        through_it = replace(place, result_url=proxy.url)
        with run_api(through_it, max_batch_items=TOO_MANY) as api:
            before = jobs.ids()

            def body() -> Iterator[bytes]:
                yield lines([SUM] * 250)
                assert eventually(lambda: broker.ready("jobs.cpu") == 250, 30)
                proxy.cut()
                yield lines([SUM] * (MANY - 250))

            answer = api.post(BATCHES, content=body(), headers=NDJSON)
            proxy.restore()
            assert answer.status_code == 202, answer.text
            assert answer.json()["accepted"] == 250
            assert broker.ready("jobs.cpu") == 250
            assert len(jobs.ids() - before) == 250


def test_other_requests_are_answered_while_a_batch_comes_in(api: httpx2.Client) -> None:
    is_coming, is_answered = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield lines([SUM] * MANY)
        is_coming.set()
        assert is_answered.wait(30)

    with ThreadPoolExecutor(1) as client:
        batch = client.submit(lambda: api.post(BATCHES, content=body(), headers=NDJSON))
        assert is_coming.wait(30)
        assert httpx2.get(f"{api.base_url}/v1/tasks", timeout=30).status_code == 200
        is_answered.set()
        assert batch.result(60).json()["accepted"] == MANY


# --- with a key ---


def test_body_with_a_key_is_read_to_its_end_before_anything_is_queued(
    api: httpx2.Client, jobs: Jobs, known: set[str]
) -> None:
    key = {"Idempotency-Key": "corrected"}
    broken = api.post(BATCHES, content=json.dumps([SUM] * MANY).encode()[:-1], headers=key)
    assert (broken.status_code, broken.json()["code"]) == (400, "malformed-body")
    assert jobs.ids() == known

    corrected = api.post(BATCHES, json=[SUM] * MANY, headers=key)
    assert corrected.json()["accepted"] == MANY


def test_repeated_batch_is_submitted_once_whatever_its_length(
    api: httpx2.Client, broker: Broker
) -> None:
    items: list[dict[str, Any]] = [*[SUM] * MANY, {"task": "unheard-of"}, SUM]
    first = submit(api, *items, **{"Idempotency-Key": "long"})
    again = submit(api, *items, **{"Idempotency-Key": "long"})
    assert first == again
    assert (first["accepted"], first["refused"]) == (MANY + 1, 1)
    other = api.post(BATCHES, json=items[1:], headers={"Idempotency-Key": "long"})
    assert other.json()["code"] == "idempotency-key-reused"
    assert broker.ready("jobs.cpu") == MANY + 1


# --- reading ---


def test_batch_can_be_shown_without_its_jobs(api: httpx2.Client) -> None:
    batch_id = submit(api, SUM, SUM)["id"]
    whole = view(api, batch_id)
    assert len(whole.pop("jobs")) == 2
    assert view(api, batch_id, jobs=False) == whole


def test_item_that_was_taken_back_is_no_job_of_the_batch(
    api: httpx2.Client, broker: Broker
) -> None:
    broker.delete_queue("jobs.cpu")
    batch = submit(api, fetch("answers"), SUM)
    broker.declare()
    shown = view(api, batch["id"])
    assert [job["id"] for job in shown["jobs"]] == [batch["items"][0]["id"]]


def test_batch_none_of_whose_jobs_is_accepted_leaves_nothing(
    api: httpx2.Client, broker: Broker, jobs: Jobs, known: set[str]
) -> None:
    before = set(jobs.redis.keys("twinlane:batch*"))
    broker.delete_queue("jobs.cpu")
    answer = api.post(BATCHES, json=[SUM, SUM])
    broker.declare()
    assert (answer.status_code, answer.json()["code"]) == (503, "broker-unavailable")
    assert jobs.ids() == known
    assert set(jobs.redis.keys("twinlane:batch*")) == before


def test_job_that_is_reopened_is_seen_by_every_process(
    place: Place, api: httpx2.Client, jobs: Jobs
) -> None:
    with run_api(place) as other:
        batch = submit(api, fetch("rejects"), fetch("answers"))
        with run_lane_worker(place, Lane.IO):
            for item in batch["items"]:
                jobs.outcome(item["id"])
        apis = [api, other]
        assert [view(each, batch["id"])["counts"] for each in apis] == [
            {"failed": 1, "succeeded": 1}
        ] * 2
        failed = batch["items"][0]["id"]
        (letter,) = [
            letter
            for letter in api.get("/v1/dead-letters").json()["dead_letters"]
            if letter["job"] == failed
        ]
        api.post("/v1/dead-letters/requeue", json={"ids": [letter["id"]]}).raise_for_status()
        assert [view(each, batch["id"])["counts"] for each in apis] == [
            {"queued": 1, "succeeded": 1}
        ] * 2
        assert [view(each, batch["id"])["state"] for each in apis] == ["running"] * 2
        with run_lane_worker(place, Lane.IO):
            jobs.outcome(failed)
        assert [view(each, batch["id"])["state"] for each in apis] == ["failed"] * 2


# --- waiting ---


def test_client_that_prefers_to_wait_gets_the_whole_batch(place: Place, api: httpx2.Client) -> None:
    items = [fetch("answers")] * 20 + [fetch("rejects")]
    with run_lane_worker(place, Lane.IO):
        answer = api.post(BATCHES, json=items, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert "Retry-After" not in answer.headers
    ended = answer.json()
    assert (ended["accepted"], ended["state"]) == (21, "failed")
    assert ended["counts"] == {"succeeded": 20, "failed": 1}
    assert ended["finished_at"]


def test_client_that_waits_in_vain_has_the_batch_all_the_same(api: httpx2.Client) -> None:
    answer = api.post(BATCHES, json=[SUM, SUM], headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert (answer.json()["state"], answer.json()["counts"]) == ("queued", {"queued": 2})
    assert answer.headers["Retry-After"]


def test_everybody_who_waits_for_a_batch_is_told_of_its_end(
    place: Place, api: httpx2.Client, jobs: Jobs
) -> None:
    batch = submit(api, *[fetch("answers")] * 50)
    with ThreadPoolExecutor(20) as clients:
        waiting = [clients.submit(view, api, batch["id"], wait=60, jobs=False) for _ in range(20)]
        with run_lane_worker(place, Lane.IO):
            assert [future.result(70)["state"] for future in waiting] == ["succeeded"] * 20
    assert {jobs.status(item["id"]).state for item in batch["items"]} == {JobState.SUCCEEDED}


def test_every_end_is_announced_on_the_channel_of_its_batch(
    place: Place, api: httpx2.Client, jobs: Jobs
) -> None:
    email = "analista@empresa.com"
    report = {"task": "io.send_report", "args": {"email": email}}
    no_report = {"task": "io.send_report", "args": {"email": email, "region": NO_SALES}}
    batch = submit(api, fetch("answers"), fetch("rejects"), report, no_report)
    ids = [item["id"] for item in batch["items"]]
    with jobs.redis.pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe(ends_channel(batch["id"]))
        with run_lane_worker(place, Lane.IO), run_lane_worker(place, Lane.CPU):
            ends = [jobs.outcome(job_id).state for job_id in ids]
        heard = []
        while message := pubsub.get_message(timeout=1):
            heard += [message["data"].decode()] if message["type"] == "message" else []
    assert ends == [JobState.SUCCEEDED, JobState.FAILED, JobState.SUCCEEDED, JobState.FAILED]
    assert set(heard) == set(ids)


def test_cancel_of_a_batch_ends_the_waiting_for_it(api: httpx2.Client) -> None:
    batch_id = submit(api, SUM, SUM)["id"]
    with ThreadPoolExecutor(1) as client:
        waiting = client.submit(view, api, batch_id, wait=60)
        cancelled = api.post(f"{BATCHES}/{batch_id}/cancel")
        assert cancelled.status_code == 202
        assert waiting.result(70)["state"] == "cancelled"


def test_end_that_nobody_announces_is_seen(
    place: Place, api: httpx2.Client, broker: Broker
) -> None:
    batch_id = submit(api, fetch("answers"))["id"]
    message = broker.take("jobs.io")
    assert message
    headers = headers_of(message)
    assert headers.pop(BATCH_HEADER) == batch_id
    broker.publish("jobs.io", str(message.body), headers)
    with ThreadPoolExecutor(1) as client:
        waiting = client.submit(view, api, batch_id, wait=60)
        with run_lane_worker(place, Lane.IO):
            assert waiting.result(70)["state"] == "succeeded"


@pytest.mark.parametrize("wait", ["-1", "61", "soon"])
def test_nobody_waits_longer_than_a_minute(api: httpx2.Client, wait: str) -> None:
    answer = api.get(f"{BATCHES}/nobody", params={"wait": wait})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")


def test_unknown_batch_cannot_be_waited_for(api: httpx2.Client) -> None:
    answer = api.get(f"{BATCHES}/nobody", params={"wait": 1})
    assert (answer.status_code, answer.json()["code"]) == (404, "batch-not-found")
