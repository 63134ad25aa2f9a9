"""A job's server-sent events."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from integration.broker import Broker
from integration.place import Place
from integration.services import run_api, run_lane_worker
from twinlane_sdk.lanes import Lane

HOSTS = "waits.test,answers.test,fails-before.test,reports.test"


@pytest.fixture
def api(place: Place, broker: Broker) -> Iterator[httpx2.Client]:
    broker.declare()
    with run_api(place, fetch_allowed_hosts=HOSTS) as client:
        yield client


def submit(api: httpx2.Client, url: str) -> str:
    job_id: str = api.post("/v1/tasks/io.fetch_url/jobs", json={"url": url}).json()["id"]
    return job_id


def follow(
    api: httpx2.Client, job_id: str, last_event_id: int | None = None
) -> Iterator[tuple[str, str | None, Any]]:
    """Yield name, id and data of each event, until the stream ends."""
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    with api.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in stream.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif "data" in event:
                yield event["event"], event.get("id"), json.loads(event["data"])
                event = {}


def states(events: list[tuple[str, str | None, Any]]) -> list[str]:
    return [data["state"] for name, _, data in events if name == "state"]


def test_events_show_what_a_job_goes_through_and_end_with_it(
    api: httpx2.Client, place: Place
) -> None:
    job_id = submit(api, "http://fails-before.test/2")
    following = follow(api, job_id)
    first = next(following)
    assert (first[0], first[1], first[2]["state"]) == ("state", "0", "queued")
    with run_lane_worker(place, Lane.IO):
        events = [first, *following]
    assert states(events) == ["queued", "running", "retrying", "running", "succeeded"]
    assert [number for name, number, _ in events if name == "state"] == list("01234")
    name, number, job = events[-1]
    assert (name, number, job["state"]) == ("end", None, "succeeded")
    assert job["result"]["url"] == "http://fails-before.test/2"


def test_client_that_comes_back_misses_nothing_and_sees_nothing_twice(
    api: httpx2.Client, place: Place
) -> None:
    job_id = submit(api, "http://fails-before.test/2")
    with run_lane_worker(place, Lane.IO):
        whole = list(follow(api, job_id))
    for seen in range(-1, 5):
        again = list(follow(api, job_id, last_event_id=seen))
        assert again == [e for e in whole if e[0] == "end" or int(e[1] or 0) > seen]


def test_progress_is_sent_while_the_job_runs(api: httpx2.Client, place: Place) -> None:
    job_id = submit(api, "http://reports.test/")
    with run_lane_worker(place, Lane.IO):
        events = list(follow(api, job_id))
    reports = [data for name, _, data in events if name == "progress"]
    assert reports[0] == {
        "current": 1,
        "total": 4,
        "unit": "rows",
        "percent": 25.0,
        "message": "counting",
    }
    assert states(events) == ["queued", "running", "succeeded"]


def test_events_of_a_job_that_is_cancelled_end_at_once(api: httpx2.Client) -> None:
    job_id = submit(api, "http://answers.test/")
    following = follow(api, job_id)
    next(following)
    api.post(f"/v1/jobs/{job_id}/cancel")
    assert states(list(following)) == ["cancelled"]


def test_events_of_what_is_not_there_are_a_problem(api: httpx2.Client) -> None:
    answer = api.get("/v1/jobs/nothing/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found")
    job_id = submit(api, "http://answers.test/")
    answer = api.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "seven"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
