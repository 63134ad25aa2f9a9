"""A request that is repeated with its Idempotency-Key is one job."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from contracts.keys import confirmed_key
from integration.broker import Broker
from integration.jobs import Jobs
from integration.place import Place
from integration.services import run_api
from twinlane_sdk.lanes import Lane

QUEUE = Lane.CPU.queue_name
SUM = "/v1/tasks/cpu.sum_numbers/jobs"


@pytest.fixture
def api(place: Place, broker: Broker) -> Iterator[httpx2.Client]:
    broker.declare()
    with run_api(place) as client:
        yield client


def post(
    api: httpx2.Client,
    key: str,
    path: str = SUM,
    **request: Any,  # noqa: ANN401 - httpx2's own arguments
) -> httpx2.Response:
    return api.post(path, headers={"Idempotency-Key": key}, **request)


def test_request_that_is_repeated_gets_the_job_of_the_first(
    api: httpx2.Client, broker: Broker
) -> None:
    first = post(api, "once", json={"a": 1, "b": 2})
    again = post(api, "once", json={"b": 2, "a": 1})
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert broker.ready(QUEUE) == 1


def test_key_that_is_used_for_another_body_is_refused(api: httpx2.Client, broker: Broker) -> None:
    first = post(api, "once", json={"a": 1, "b": 2}).json()
    other = post(api, "once", json={"a": 1, "b": 3})
    later = post(api, "once", json={"a": 1, "b": 2}, params={"delay": 60})
    for refused in (other, later):
        assert refused.status_code == 422
        assert refused.json()["code"] == "idempotency-key-reused"
        assert first["id"] in refused.json()["detail"]
    assert broker.ready(QUEUE) == 1


def test_key_stands_for_one_job_of_each_route(api: httpx2.Client) -> None:
    first = post(api, "once", json={"a": 1, "b": 2}).json()
    second = post(api, "once", path="/v1/tasks/cpu.aggregate_sales/jobs", json={}).json()
    assert first["id"] != second["id"]


@pytest.mark.parametrize("key", ["", "two words", "x" * 256])
def test_key_that_is_none_is_refused(api: httpx2.Client, key: str) -> None:
    refused = post(api, key, json={"a": 1, "b": 2})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")


def test_hundred_parallel_requests_with_one_key_make_one_job(
    api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda _: post(api, "race", json={"a": 1, "b": 2}), range(100)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert len(jobs.ids()) == broker.ready(QUEUE) == 1


def test_two_processes_make_one_job_of_one_key(place: Place, broker: Broker, jobs: Jobs) -> None:
    broker.declare()
    with run_api(place) as one, run_api(place) as two, ThreadPoolExecutor(20) as clients:
        apis = [one, two] * 25
        answers = list(clients.map(lambda api: post(api, "race", json={"a": 1, "b": 2}), apis))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(jobs.ids()) == broker.ready(QUEUE) == 1


def test_job_whose_confirm_nobody_has_seen_is_published_again(
    api: httpx2.Client, broker: Broker, jobs: Jobs
) -> None:
    """As when the API was killed between the record and the answer."""
    first = post(api, "lost", json={"a": 1, "b": 2}).json()
    broker.take(QUEUE)
    jobs.redis.delete(confirmed_key(first["id"]))
    again = post(api, "lost", json={"a": 1, "b": 2})
    assert again.json()["id"] == first["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert broker.ready(QUEUE) == 1


@pytest.mark.parametrize(
    ("method", "path", "params"),
    [
        ("POST", "/send-task/", {"a": 1, "b": 2}),
        ("POST", "/process-csv", {"num_rows": 10}),
        ("POST", "/aggregate", {}),
        ("POST", "/send-report", {}),
        ("POST", "/exibir", {}),
        ("GET", "/sequential_celery", {"n": 3, "delay": 0}),
    ],
)
def test_demonstration_routes_know_the_key_too(
    api: httpx2.Client, jobs: Jobs, method: str, path: str, params: dict[str, int]
) -> None:
    headers = {"Idempotency-Key": "once"}
    first = api.request(method, path, params=params, headers=headers)
    before = jobs.ids()
    again = api.request(method, path, params=params, headers=headers)
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert jobs.ids() == before


def test_batch_that_is_repeated_is_one_batch(api: httpx2.Client, broker: Broker) -> None:
    items = [{"task": "cpu.sum_numbers", "args": {"a": n, "b": 1}} for n in range(20)]
    items.append({"task": "unheard-of"})
    first = post(api, "batch", path="/v1/batches", json=items)
    again = post(api, "batch", path="/v1/batches", json=items)
    other = post(api, "batch", path="/v1/batches", json=items[:-1])
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert first.json()["accepted"] == 20
    assert again.headers["Idempotency-Replayed"] == "true"
    assert other.json()["code"] == "idempotency-key-reused"
    assert broker.ready(QUEUE) == 20


def test_batch_that_was_accepted_in_part_is_completed_by_its_repetition(
    api: httpx2.Client, broker: Broker
) -> None:
    items = [{"task": "cpu.sum_numbers", "args": {"a": n, "b": 1}} for n in range(5)]
    items += [{"task": "io.draw_number"} for _ in range(5)]
    broker.delete_queue("jobs.io")
    first = post(api, "partly", path="/v1/batches", json=items).json()
    assert (first["accepted"], first["refused"]) == (5, 5)
    broker.declare()
    again = post(api, "partly", path="/v1/batches", json=items).json()
    assert (again["accepted"], again["refused"]) == (10, 0)
    assert again["id"] == first["id"]
    assert broker.ready("jobs.io") == 5
    view = api.get(f"/v1/batches/{first['id']}").json()
    assert view["total"] == 10


async def test_answer_that_was_lost_can_be_asked_for_again(place: Place, broker: Broker) -> None:
    """Clients that time out and try again, all of them with their own key."""
    broker.declare()
    with run_api(place) as client:
        async with httpx2.AsyncClient(base_url=client.base_url) as api:

            async def persist(number: int) -> str:
                headers = {"Idempotency-Key": f"key-{number}"}
                body = {"a": number, "b": 1}
                for patience in (0.001, 0.005, 0.02):
                    try:
                        answer = await api.post(SUM, json=body, headers=headers, timeout=patience)
                    except httpx2.TimeoutException:
                        continue
                    break
                answer = await api.post(SUM, json=body, headers=headers, timeout=30)
                assert answer.status_code == 202
                job_id: str = answer.json()["id"]
                return job_id

            ids = await asyncio.gather(*(persist(number) for number in range(30)))
    assert len(set(ids)) == 30
    assert broker.ready(QUEUE) == 30
