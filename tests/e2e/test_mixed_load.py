import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import pytest

from e2e.client import Api, Json, unique
from e2e.conftest import Stack
from e2e.sales import figures_of, make_sales, to_csv

CLIENTS: Final = 20
JOBS: Final = 1_000
WITHIN_SECONDS: Final = 200


@dataclass(frozen=True)
class Expected:
    """A job to submit and what its end must be."""

    task: str
    args: Json
    fits: Callable[[Json], bool]


def succeeds(task: str, args: Json, fits: Callable[[Json], bool]) -> Expected:
    return Expected(
        task, args, lambda job: bool(job["state"] == "succeeded" and fits(job["result"]))
    )


def is_rejected(task: str, args: Json) -> Expected:
    return Expected(
        task,
        args,
        lambda job: bool(job["state"] == "failed" and job["error"]["code"] == "job-rejected"),
    )


def draw() -> Expected:
    def fits(job: Json) -> bool:
        if job["state"] == "succeeded":
            return bool(7 <= job["result"]["number"] <= 10)
        # Sixteen low draws in a row are rare, and no fault.
        return bool(job["error"]["code"] == "attempts-exhausted" and len(job["attempts"]) == 16)

    return Expected("io.draw_number", {}, fits)


def fetch(url: str, status: int) -> Expected:
    return succeeds("io.fetch_url", {"url": url}, lambda result: bool(result["status"] == status))


def add(a: int, b: int) -> Expected:
    return succeeds("cpu.sum_numbers", {"a": a, "b": b}, lambda result: result == {"total": a + b})


def fan_out(httpbin: str) -> Expected:
    codes = [200, 404, 410]
    urls = [f"{httpbin}/status/{code}" for code in codes]
    return succeeds(
        "io.fan_out",
        {"urls": urls},
        lambda result: [response["status"] for response in result["responses"]] == codes,
    )


def mixed_jobs(api: Api, httpbin: str) -> list[Expected]:
    """Return all jobs in a mixed order; the files that they need are uploaded."""
    region, sales_name = unique("region"), unique("sales", ".csv")
    content = to_csv(make_sales(1_000, region, seed=31))
    assert api.process(sales_name, content)["state"] == "succeeded"
    small, binary = unique("small", ".csv"), unique("binary", ".csv")
    api.upload(small, b"a,b\n1,2\n3,4\nthis is bad\n")
    api.upload(binary, bytes(range(256)) * 20)
    rows = figures_of(content, region, "2025-02").rows

    def aggregate() -> Expected:
        args = {"region": region, "month": "2025-02"}
        return succeeds("cpu.aggregate_sales", args, lambda r: bool(r["figures"]["rows"] == rows))

    def process() -> Expected:
        args = {"filename": small}
        return succeeds(
            "cpu.process_csv",
            args,
            lambda r: (r["rows_in"], r["rows_clean"], r["rows_quarantined"]) == (3, 2, 1),
        )

    def report() -> Expected:
        args = {"email": unique("load", "@empresa.com"), "region": region, "month": "2025-02"}
        return succeeds(
            "io.send_report", args, lambda result: bool(result["email"] == args["email"])
        )

    jobs = [
        *(add(n, 10**30) for n in range(30)),
        *(draw() for _ in range(40)),
        *(fetch(f"{httpbin}/status/404", 404) for _ in range(250)),
        *(fan_out(httpbin) for _ in range(40)),
        *(aggregate() for _ in range(110)),
        *(process() for _ in range(60)),
        *(report() for _ in range(8)),
        *(is_rejected("cpu.process_csv", {"filename": binary}) for _ in range(60)),
        *(is_rejected("io.fetch_url", {"url": f"{httpbin}/redirect/20"}) for _ in range(20)),
    ]
    jobs += [fetch(f"{httpbin}/delay/0", 200) for _ in range(JOBS - len(jobs))]
    random.Random(32).shuffle(jobs)  # noqa: S311 - the same disorder each time
    return jobs


@pytest.mark.timeout(2 * WITHIN_SECONDS)
def test_thousand_mixed_jobs_of_twenty_clients_all_end_as_expected(
    api: Api, stack: Stack, httpbin: str
) -> None:
    jobs = mixed_jobs(api, httpbin)
    assert len(jobs) == JOBS

    def client(own: list[Expected]) -> list[tuple[str, Json]]:
        """Submit one's jobs, then see how each ended; return those that ended otherwise."""
        with Api(stack.api_url) as connection:
            ids = [connection.submit(job.task, job.args) for job in own]
            ended = [connection.ended(job_id, WITHIN_SECONDS) for job_id in ids]
        assert len(set(ids)) == len(own)
        return [(job.task, end) for job, end in zip(own, ended, strict=True) if not job.fits(end)]

    with ThreadPoolExecutor(CLIENTS) as clients:
        surprises = [
            surprise
            for found in clients.map(client, (jobs[n::CLIENTS] for n in range(CLIENTS)))
            for surprise in found
        ]

    assert not surprises, Counter(
        (task, job["state"], (job["error"] or {}).get("detail")) for task, job in surprises
    )
    queues = api.read("/queue/stats")
    assert queues["total_workers"] >= 2
