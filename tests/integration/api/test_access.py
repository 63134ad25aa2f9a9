"""The API as a process, with keys and without."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx2
import pytest

from integration.broker import Broker
from integration.place import Place
from integration.services import run_api

SUM = "/v1/tasks/cpu.sum_numbers/jobs"


def entry(name: str, scopes: str) -> str:
    return f"{name}:{scopes}:{sha256(name.encode()).hexdigest()}"


@pytest.fixture
def api(place: Place) -> Iterator[httpx2.Client]:
    Broker(place).declare()
    keys = [entry("one", "submit+read"), entry("two", "submit"), entry("reader", "read")]
    with run_api(place, api_keys=",".join(keys)) as client:
        yield client


def by(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def code(answer: httpx2.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json().get("code")


def test_job_is_submitted_and_read_with_a_key_and_not_without(api: httpx2.Client) -> None:
    work = {"a": 2, "b": 3}
    assert code(api.post(SUM, json=work)) == (401, "unauthorized")
    assert code(api.post(SUM, json=work, headers=by("reader"))) == (403, "forbidden")
    accepted = api.post(SUM, json=work, headers=by("one"))
    assert accepted.status_code == 202
    path = accepted.headers["Location"]
    assert code(api.get(path)) == (401, "unauthorized")
    assert api.get(path, headers=by("reader")).json()["state"] == "queued"


def test_idempotency_key_of_one_caller_is_not_that_of_another(api: httpx2.Client) -> None:
    def submitted(name: str) -> str:
        headers = by(name) | {"Idempotency-Key": "same"}
        job_id: str = api.post(SUM, json={"a": 2, "b": 3}, headers=headers).json()["id"]
        return job_id

    assert submitted("one") == submitted("one")
    assert submitted("one") != submitted("two")


def test_refusal_leaves_the_connection_usable(api: httpx2.Client) -> None:
    for _ in range(3):
        refused = api.post("/v1/files?filename=a.csv", content=b"a" * 1_000_000)
        assert code(refused) == (401, "unauthorized")
    assert api.get("/v1/tasks", headers=by("one")).status_code == 200


def test_more_requests_than_a_key_may_make_are_refused_for_a_while(place: Place) -> None:
    keys = entry("one", "read")
    with run_api(place, api_keys=keys, rate_limit_per_key="5/minute") as api:
        answers = [api.get("/v1/tasks", headers=by("one")) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[-1].json()["limit"] == "5 requests per minute"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60


def test_forwarded_address_is_believed_from_a_known_proxy_only(place: Place) -> None:
    def statuses(api: httpx2.Client) -> list[int]:
        return [
            api.get(
                "/v1/tasks", headers=by("one") | {"X-Forwarded-For": f"192.0.2.{n}"}
            ).status_code
            for n in range(3)
        ]

    limited: dict[str, Any] = {"api_keys": entry("one", "read"), "rate_limit_per_address": "2/hour"}
    with run_api(place, **limited) as api:
        assert statuses(api) == [200, 200, 200]
    with run_api(place, **limited, forwarded_allow_ips="192.0.2.99") as api:
        assert statuses(api) == [200, 200, 429]


def test_headers_that_are_too_large_are_refused_with_a_problem(api: httpx2.Client) -> None:
    refused = api.get("/livez", headers={"X-Large": "a" * 40_000})
    assert code(refused) == (431, "headers-too-large")


def test_api_that_is_open_says_so_when_it_starts(place: Place) -> None:
    with run_api(place) as api:
        assert api.get("/v1/tasks").status_code == 200
        (log,) = place.folder.glob("api-*.log")
        warnings = [line for line in log.read_text().splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert f"no API_KEYS: whoever reaches 127.0.0.1:{api.base_url.port} may do" in warnings[0]
