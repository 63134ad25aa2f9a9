"""Cancelling through the API."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from integration.broker import Broker
from integration.jobs import Jobs
from integration.place import Place
from integration.services import run_api, run_lane_worker
from servers import eventually
from twinlane_sdk.lanes import Lane
from twinlane_tasks.http import FETCH_URL

HOSTS = "waits.test,answers.test,fails-before.test,breaks.test"


@pytest.fixture
def api(place: Place, broker: Broker) -> Iterator[httpx2.Client]:
    broker.declare()
    with run_api(place, fetch_allowed_hosts=HOSTS) as client:
        yield client


def submit(api: httpx2.Client, url: str, **params: int) -> str:
    answer = api.post(f"/v1/tasks/{FETCH_URL.name}/jobs", json={"url": url}, params=params)
    assert answer.status_code == 202
    job_id: str = answer.json()["id"]
    return job_id


def cancel(api: httpx2.Client, job_id: str) -> Any:  # noqa: ANN401 - JSON
    answer = api.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.status_code == 202
    return answer.json()


def job(api: httpx2.Client, job_id: str) -> Any:  # noqa: ANN401 - JSON
    return api.get(f"/v1/jobs/{job_id}").json()


def in_state(api: httpx2.Client, job_id: str, state: str) -> bool:
    return eventually(lambda: job(api, job_id)["state"] == state, 60)


@pytest.mark.parametrize("params", [{}, {"delay": 3600}], ids=["queued", "scheduled"])
def test_waiting_job_is_cancelled_at_once_with_no_worker_up(
    api: httpx2.Client, params: dict[str, int]
) -> None:
    job_id = submit(api, "http://answers.test/", **params)
    cancelled = cancel(api, job_id)
    assert cancelled["state"] == "cancelled"
    assert cancelled["cancel_requested_at"] is not None
    assert cancelled["finished_at"] is not None
    result = api.get(f"/v1/jobs/{job_id}/result")
    assert (result.status_code, result.json()["code"]) == (409, "job-has-no-result")


def test_cancelled_job_never_runs_and_stays_cancelled(
    api: httpx2.Client, place: Place, broker: Broker
) -> None:
    job_id = submit(api, "http://waits.test/gate")
    before = cancel(api, job_id)
    with run_lane_worker(place, Lane.IO):
        assert eventually(lambda: broker.ready("jobs.io") == 0, 30)
        after = submit(api, "http://answers.test/")
        assert in_state(api, after, "succeeded")
    assert job(api, job_id) == before
    assert not (place.folder / "gate.begun").exists()
    assert broker.ready("jobs.dead") == 0


def test_running_job_shows_the_request_to_cancel_it_and_stops(
    api: httpx2.Client, place: Place
) -> None:
    with run_lane_worker(place, Lane.IO):
        job_id = submit(api, "http://waits.test/gate")
        assert eventually((place.folder / "gate.begun").exists)
        asked = cancel(api, job_id)
        assert asked["cancel_requested_at"] is not None
        assert in_state(api, job_id, "cancelled")


def test_retrying_job_is_cancelled_at_once(api: httpx2.Client, place: Place) -> None:
    with run_lane_worker(place, Lane.IO):
        job_id = submit(api, "http://fails-before.test/99")
        assert in_state(api, job_id, "retrying")
        cancel(api, job_id)
        assert in_state(api, job_id, "cancelled")


@pytest.mark.parametrize(
    ("address", "end"), [("http://answers.test/", "succeeded"), ("http://breaks.test/", "failed")]
)
def test_job_that_ended_first_stays_as_it_ended(
    api: httpx2.Client, place: Place, address: str, end: str
) -> None:
    with run_lane_worker(place, Lane.IO):
        job_id = submit(api, address)
        assert in_state(api, job_id, end)
    before = job(api, job_id)
    assert cancel(api, job_id) == before
    assert before["cancel_requested_at"] is None


def test_report_that_nobody_renders_yet_is_cancelled_with_both_its_stages(
    api: httpx2.Client, place: Place, broker: Broker
) -> None:
    answer = api.post("/v1/tasks/io.send_report/jobs", json={"email": "ana@empresa.com"})
    job_id = answer.json()["id"]
    assert cancel(api, job_id)["state"] == "cancelled"
    with run_lane_worker(place, Lane.CPU), run_lane_worker(place, Lane.IO):
        assert eventually(lambda: broker.ready("jobs.cpu") == 0, 30)
        after = submit(api, "http://answers.test/")
        assert in_state(api, after, "succeeded")
    assert job(api, job_id)["state"] == "cancelled"
    assert job(api, job_id)["attempts"] == []


def test_batch_is_cancelled_as_a_whole_except_for_what_has_ended(
    api: httpx2.Client, place: Place
) -> None:
    now: dict[str, Any] = {"task": FETCH_URL.name, "args": {"url": "http://answers.test/"}}
    items = [now, *[now | {"delay": 3600}] * 50]
    batch = api.post("/v1/batches", json=items).json()
    with run_lane_worker(place, Lane.IO):
        assert in_state(api, batch["items"][0]["id"], "succeeded")
    answer = api.post(f"/v1/batches/{batch['id']}/cancel")
    assert answer.status_code == 202
    view = answer.json()
    assert view["state"] == "cancelled"
    assert view["counts"] == {"succeeded": 1, "cancelled": 50}


def test_cancel_of_what_is_not_there_is_a_404(api: httpx2.Client) -> None:
    for kind in ("jobs", "batches"):
        answer = api.post(f"/v1/{kind}/nothing/cancel")
        assert answer.status_code == 404


def test_cancel_can_be_asked_for_twice(api: httpx2.Client, jobs: Jobs) -> None:
    job_id = submit(api, "http://answers.test/", delay=3600)
    first = cancel(api, job_id)
    assert cancel(api, job_id) == first
    assert jobs.status(job_id).finished_at is not None
