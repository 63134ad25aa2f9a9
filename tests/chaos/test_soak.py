"""The soak."""

# ruff: noqa: PLR0913, PLR0917 - fixtures are arguments

import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import pytest
import redis as redis_client

from chaos.backing import BreakableRabbitMQ, BreakableRedis
from chaos.client import Answer, Client, in_threads, undocumented
from chaos.havoc import Havoc
from chaos.inbox import Inbox
from chaos.queues import LaneQueue
from chaos.reliability import Measured
from chaos.services import ApiService, cpu_worker, io_worker, together
from chaos.workload import MONTHS, REGION, Batch, Submittable, Work, Workload
from e2e.client import TERMINAL, Json
from integration.broker import Broker
from integration.place import Place
from twinlane_sdk.lanes import Lane

SECONDS: Final = int(os.environ.get("CHAOS_SOAK_SECONDS") or 300)
CLIENTS: Final = 20
JOBS_PER_SECOND: Final = 35
JOBS: Final = JOBS_PER_SECOND * SECONDS
DRAIN_SECONDS: Final = 240
API_SLACK_SECONDS: Final = 2.0
MAIL_WINDOW_SECONDS: Final = 2.0
"""Between handing a mail over and its receipt, on a busy machine: what is in the sockets arrives
even after the death of the worker, and the time that is noted is this process's."""
_TOLD_CHARACTERS: Final = 700
LIMIT_SECONDS: Final = 3 * SECONDS + 2 * DRAIN_SECONDS


@dataclass
class Account:
    """What the clients have seen."""

    works: list[Work] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    setbacks: list[Answer] = field(default_factory=list)

    def surprise(self, what: str, work: Work, job: object) -> None:
        """Keep what went wrong with a job; `what` begins with the kind of it."""
        told = f"{what} of {work.kind}: {work.job_id} {work.args} {job}"
        self.surprises.append(told[:_TOLD_CHARACTERS])

    def verdict(self) -> str:
        """Return how often each thing went wrong, with an example of each."""
        kinds: defaultdict[str, list[str]] = defaultdict(list)
        for surprise in self.surprises:
            kinds[surprise.partition(":")[0]].append(surprise)
        return "\n".join(f"{len(found)} times {found[0]}" for found in kinds.values())


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    inbox = Inbox()
    inbox.start()
    yield inbox
    inbox.stop()


@pytest.fixture
def havoc(
    place: Place,
    broker: Broker,  # noqa: ARG001 - declared
    inbox: Inbox,
    rabbitmq: BreakableRabbitMQ,
    redis: BreakableRedis,
    seed: int,
) -> Iterator[Havoc]:
    """Everything runs: the API, two workers of each lane, and who will disturb them."""
    allowed = {
        "fetch_allowed_hosts": "127.0.0.1",
        "report_allowed_recipients": "@empresa.com",
    }
    mail = {"smtp_host": inbox.host, "smtp_port": inbox.port}
    api = ApiService(place, **allowed)
    io_workers = [io_worker(place, f"io-{n}", io_concurrency=24, **allowed, **mail) for n in (1, 2)]
    cpu_workers = [cpu_worker(place, f"cpu-{n}", sum_delay_seconds=0) for n in (1, 2)]
    services = [api, *io_workers, *cpu_workers]
    try:
        together(*services)
        yield Havoc(seed, api, list(io_workers), list(cpu_workers), rabbitmq, redis)
    finally:
        for service in services:
            if service.is_running():
                service.resume()
                service.stop()


@pytest.mark.timeout(LIMIT_SECONDS)
def test_nothing_is_lost_or_doubled_while_everything_is_killed_at_random(
    place: Place,
    broker: Broker,
    httpbin: str,
    inbox: Inbox,
    havoc: Havoc,
    seed: int,
    measured: Measured,
) -> None:
    """Every job that was accepted ends in the right state with the right result, every error
    that a client sees is a documented one, and no effect is missing or doubled.

    Fault: mixed jobs from 20 clients while the API, four workers, RabbitMQ and Redis are killed,
    stopped, paused and restarted in a seeded random order.
    """
    workload = Workload(seed, httpbin)
    work = workload.make(JOBS)
    account = Account()
    url = havoc.api.url  # type: ignore[attr-defined]

    clients = threading.Thread(
        target=_collecting(account), args=[CLIENTS, lambda n: _be_client(n, url, work, account)]
    )
    clients.start()
    havoc.run(SECONDS)
    clients.join()
    began = time.monotonic()
    in_threads(CLIENTS, lambda n: _check_ends(url, account.works[n::CLIENTS], account))
    measured.seconds("last job ended after the last fault by", time.monotonic() - began)
    for lane in Lane:
        LaneQueue(broker, lane).wait_until_empty()

    doubled = _check_mails(account, inbox, havoc)
    _check_sales(url, workload, account)
    _check_nothing_unasked(place, account)
    _check_setbacks(account, havoc)
    _tell(measured, account, havoc, doubled, seed)
    assert not account.surprises, account.verdict()
    assert len(account.works) >= JOBS
    assert not havoc.ended_by_itself, havoc.ended_by_itself[0]


def _collecting(account: Account) -> Any:  # noqa: ANN401 - a thread's target
    def run(count: int, work: Any) -> None:  # noqa: ANN401 - the same
        try:
            in_threads(count, work)
        except Exception as exc:  # noqa: BLE001 - told at the end
            account.surprises.append(f"a client gave up: {exc!r}"[:_TOLD_CHARACTERS])

    return run


def _be_client(number: int, url: str, work: list[Submittable], account: Account) -> None:
    """Submit one's share, spread over the time; look at one's jobs now and then."""
    own = work[number::CLIENTS]
    chance = random.Random(number)  # noqa: S311 - to be repeated
    began = time.monotonic()
    mine: list[Work] = []
    with Client(url) as client:
        for place_in_line, submittable in enumerate(own):
            due = began + SECONDS * place_in_line / len(own)
            time.sleep(max(0.0, due - time.monotonic()))
            mine += _submit(client, submittable, account)
            if chance.random() < 0.1:
                _look(client, chance.choice(mine), account)
        account.works += mine
        account.setbacks += client.setbacks


def _submit(client: Client, submittable: Submittable, account: Account) -> list[Work]:
    if isinstance(submittable, Batch):
        return _submit_batch(client, submittable)
    work = submittable
    if work.upload:
        name, content = work.upload
        stored = client.persist("POST", "/v1/files", params={"filename": name}, content=content)
        assert stored.status in {200, 201}, stored
    params = {} if work.delay is None else {"delay": work.delay}
    work.job_id = client.submit(work.task, work.args, work.key, **params)
    if work.is_cancelled:
        answer = client.persist("POST", f"/v1/jobs/{work.job_id}/cancel")
        if answer.status != 202:
            account.surprise("cancel", work, answer)
    return [work]


def _submit_batch(client: Client, batch: Batch) -> list[Work]:
    """Submit a batch; items that were refused are submitted one by one."""
    items = [{"task": work.task, "args": work.args} for work in batch.items]
    answer = client.persist(
        "POST", "/v1/batches", json=items, headers={"Idempotency-Key": batch.key}
    )
    assert answer.status == 202, answer
    for outcome in answer.body["items"]:
        work = batch.items[outcome["index"]]
        problem = outcome.get("problem") or {}
        work.job_id = outcome.get("id") or problem.get("job_id") or ""
        if not work.job_id:
            key = f"{batch.key}-{outcome['index']}"
            work.job_id = client.submit(work.task, work.args, key)
    return batch.items


def _look(client: Client, work: Work, account: Account) -> None:
    answer = client.persist("GET", f"/v1/jobs/{work.job_id}")
    if answer.status != 200:
        account.surprise("look", work, answer)


def _check_ends(url: str, works: list[Work], account: Account) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS
    with Client(url) as client:
        for work in works:
            job = _end(client, work.job_id, deadline)
            if job is None:
                account.surprise("lost", work, "404")
                continue
            account.ends[work.kind, job["state"]] += 1
            if not work.end_fits(job):
                told = {name: job.get(name) for name in ("state", "result", "error", "attempts")}
                account.surprise("end", work, told)
            elif job["state"] == "succeeded" and work.task in _WITH_ARTIFACTS:
                _check_artifacts(client, work, job, account)
        account.setbacks += client.setbacks


_WITH_ARTIFACTS: Final = {
    "cpu.process_csv": {"profile.json"},
    "io.send_report": {"report.html", "report.txt", "chart.png", "mail.json"},
}


def _check_artifacts(client: Client, work: Work, job: Json, account: Account) -> None:
    listed = client.persist("GET", f"/v1/jobs/{work.job_id}/artifacts").body["artifacts"]
    there = {artifact["name"] for artifact in listed if artifact["size_bytes"] > 0}
    wanted = _WITH_ARTIFACTS[work.task] | set(job["result"].get("artifacts", ()))
    if not wanted <= there:
        account.surprise(f"artifacts {sorted(wanted - there)} missing", work, there)


def _end(client: Client, job_id: str, deadline: float) -> Json | None:
    """Return a job as it ended, or as it is when the time is over."""
    while True:
        answer = client.persist("GET", f"/v1/jobs/{job_id}", params={"wait": 5})
        if answer.status == 404:
            return None
        job: Json = answer.body
        if job["state"] in TERMINAL or time.monotonic() > deadline:
            return job


def _check_mails(account: Account, inbox: Inbox, havoc: Havoc) -> dict[str, int]:
    """Every report has one mail. A second one must have the same Message-ID, and a reason."""
    kills = [at for worker in havoc.io_workers for at in worker.killed_at]
    doubled = {"in the window": 0, "without a reason": 0}
    known = 0
    for work in account.works:
        if work.task != "io.send_report":
            continue
        arrivals = inbox.of_job(work.job_id)
        known += len(arrivals)
        if not arrivals and not work.is_cancelled:
            account.surprise("no mail", work, "")
        if len(arrivals) > 1:
            is_in_window = any(abs(at - arrivals[0]) <= MAIL_WINDOW_SECONDS for at in kills)
            doubled["in the window" if is_in_window else "without a reason"] += 1
            if not is_in_window:
                account.surprise("two mails", work, f"{arrivals}, kills at {kills}")
    if known != len(inbox.messages):
        account.surprises.append(f"{len(inbox.messages) - known} mails of jobs nobody has")
    return doubled


def _check_sales(url: str, workload: Workload, account: Account) -> None:
    """What the dataset holds is what was uploaded, to the cent."""
    with Client(url) as client:
        for month in MONTHS:
            job_id = client.submit("cpu.aggregate_sales", {"region": REGION, "month": month})
            account.works.append(
                Work("aggregate at the end", "cpu.aggregate_sales", {}, bool, job_id=job_id)
            )
            end = _end(client, job_id, time.monotonic() + DRAIN_SECONDS)
            expected = workload.figures(month)
            found = end["result"]["figures"] if end and end["result"] else {}
            wanted = (expected.rows, expected.quantity, expected.revenue)
            got = (found.get("rows"), found.get("quantity"), Decimal(found.get("revenue", 0)))
            if got != wanted:
                account.surprises.append(f"sales of {month}: {got} instead of {wanted}")


def _check_nothing_unasked(place: Place, account: Account) -> None:
    """A job that no client knows of was submitted twice."""
    with redis_client.Redis.from_url(place.result_url) as client:
        keys = client.keys("twinlane:job:*")
    assert isinstance(keys, list)
    there = {str(key, "ascii").rpartition(":")[2] for key in keys if isinstance(key, bytes)}
    known = {work.job_id for work in account.works}
    if there - known:
        account.surprises.append(f"{len(there - known)} jobs that no client knows of")
    if len(known) != len(account.works):
        account.surprises.append("two submissions have one id")


def _check_setbacks(account: Account, havoc: Havoc) -> None:
    """A 503 must have a documented code; a connection may fail only while the API was away."""
    for (status, code), count in undocumented(account.setbacks).items():
        account.surprises.append(f"{count} answers {status} {code}")
    api_downs = [down for down in havoc.downs if down.name == havoc.api.name]
    for answer in account.setbacks:
        begin, end = answer.at, answer.at + answer.seconds
        if answer.status == 0 and not any(
            down.covers(begin, end, API_SLACK_SECONDS) for down in api_downs
        ):
            told = f"connection failed while the API was up: {answer}"
            account.surprises.append(told[:_TOLD_CHARACTERS])


def _tell(
    measured: Measured, account: Account, havoc: Havoc, doubled: dict[str, int], seed: int
) -> None:
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (kind, state), count in account.ends.items():
        kinds[kind][state] += count
    states = ("succeeded", "failed", "cancelled")
    lines = [f"{'kind':24} {'jobs':>7} " + " ".join(f"{state:>10}" for state in states)]
    for kind, counts in sorted(kinds.items()):
        row = " ".join(f"{counts[state]:>10,}" for state in states)
        lines.append(f"{kind:24} {sum(counts.values()):>7,} {row}")
    setbacks = Counter(answer.code for answer in account.setbacks)
    slowest = max((a.seconds for a in account.setbacks if a.status == 503), default=0.0)
    lines += [f"faults: {dict(havoc.done)}", f"setbacks: {dict(setbacks)}, seed {seed}"]
    measured.table(lines)
    measured.note("jobs", sum(account.ends.values()))
    measured.note("faults", sum(havoc.done.values()))
    measured.note("503s and lost connections that clients repeated", len(account.setbacks))
    measured.seconds("slowest 503", slowest)
    measured.note("jobs lost, wrong or doubled", len(account.surprises))
    measured.note("mails doubled in the documented window", doubled["in the window"])
