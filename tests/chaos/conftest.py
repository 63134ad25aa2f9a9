"""Servers that can be hurt, one pair for the session, and in them a place for every test."""

import os
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pytest

from chaos import reliability
from chaos.backing import (
    BreakableRabbitMQ,
    BreakableRedis,
    run_breakable_rabbitmq,
    run_breakable_redis,
)
from chaos.reliability import NOT_RUN, Measured, Row
from integration.broker import Broker
from integration.jobs import Jobs
from integration.place import Place, new_place
from integration.proxy import Proxy
from servers import MailServer, run_httpbin, use_docker

ROWS: Final = pytest.StashKey[dict[str, Row]]()
SERVERS: Final = pytest.StashKey[tuple[str, str]]()
SEED: Final = int(os.environ.get("CHAOS_SEED") or random.randrange(1_000_000))  # noqa: S311
_TEST_SECONDS: Final = 240
_OUTPUT: Final = "chaos rows"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--reliability",
        type=Path,
        metavar="FILE",
        help="write what was measured to FILE, if every test of tests/chaos ran and passed",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test its row before any runs: one that never runs is missed."""
    for item in items:
        if isinstance(item, pytest.Function) and _is_ours(item):
            item.add_marker(pytest.mark.timeout(_TEST_SECONDS), append=True)
            config.stash[ROWS][item.nodeid] = reliability.row_of(item.module, item.function)


def _is_ours(item: pytest.Item) -> bool:
    return item.path.is_relative_to(Path(__file__).parent)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:  # noqa: ANN401
    report = yield
    row = item.config.stash[ROWS].get(item.nodeid)
    if row and (call.when == "call" or report.failed):
        row.verdict = "kept" if report.passed else "BROKEN"
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what a worker of pytest-xdist has found out."""
    output = getattr(session.config, "workeroutput", {})
    rows = session.config.stash[ROWS].items()
    output[_OUTPUT] = {nodeid: asdict(row) for nodeid, row in rows if row.verdict != NOT_RUN}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - xdist has no types
    rows = getattr(node, "workeroutput", {}).get(_OUTPUT, {})
    node.config.stash[ROWS] |= {nodeid: Row(**row) for nodeid, row in rows.items()}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:  # noqa: ANN401
    rows = list(config.stash[ROWS].values())
    if not rows:
        return
    path = config.getoption("--reliability", default=None)
    terminalreporter.section("promises")
    for line in reliability.show([row for row in rows if path or row.verdict != NOT_RUN]):
        terminalreporter.line(line)
    if path is None:
        return
    if all(row.verdict == "kept" for row in rows) and SERVERS in config.stash:
        rabbitmq, redis = config.stash[SERVERS]
        kind = "containers" if use_docker() else "processes"
        reliability.write(path, rows, reliability.Run(rabbitmq, redis, kind, SEED))
        terminalreporter.line(f"written: {path}")
    else:
        terminalreporter.line(f"not every promise was kept: {path} is not written")


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """Keeps what the test finds out, for docs/RELIABILITY.md."""
    return Measured(request.config.stash[ROWS][request.node.nodeid])


@pytest.fixture(scope="session")
def seed() -> int:
    """Begins every random choice; CHAOS_SEED repeats one."""
    return SEED


@pytest.fixture(scope="session")
def session_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BreakableRabbitMQ]:
    with run_breakable_rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as rabbitmq:
        yield rabbitmq


@pytest.fixture(scope="session")
def session_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BreakableRedis]:
    with run_breakable_redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture(scope="session", autouse=True)
def _versions(
    request: pytest.FixtureRequest,
    session_rabbitmq: BreakableRabbitMQ,
    session_redis: BreakableRedis,
) -> None:
    versions = (session_rabbitmq.version(), session_redis.version())
    request.config.stash[SERVERS] = versions


@pytest.fixture
def rabbitmq(session_rabbitmq: BreakableRabbitMQ) -> Iterator[BreakableRabbitMQ]:
    """RabbitMQ, for the test to hurt; whole again afterwards, whatever the test left."""
    yield session_rabbitmq
    _repair(session_rabbitmq)


@pytest.fixture
def redis(session_redis: BreakableRedis) -> Iterator[BreakableRedis]:
    """Redis, for the test to hurt; whole again afterwards, whatever the test left."""
    yield session_redis
    _repair(session_redis)


def _repair(victim: BreakableRabbitMQ | BreakableRedis) -> None:
    if victim.is_running():
        victim.resume()
    if not victim.is_ready():
        victim.kill()
        victim.start()


@pytest.fixture
def place(rabbitmq: BreakableRabbitMQ, redis: BreakableRedis, tmp_path: Path) -> Iterator[Place]:
    """Addresses of the test's own, for services that it starts."""
    with new_place(rabbitmq.server, redis.server, tmp_path) as place:
        yield place


@pytest.fixture
def broker(place: Place) -> Broker:
    """The test's own virtual host, with everything declared in it."""
    broker = Broker(place)
    broker.declare()
    return broker


@pytest.fixture
def jobs(place: Place) -> Iterator[Jobs]:
    jobs = Jobs(place)
    yield jobs
    jobs.celery.close()
    jobs.redis.close()


@pytest.fixture
def to_rabbitmq(place: Place) -> Iterator[Proxy]:
    """The way to RabbitMQ, for services that are given its address."""
    with Proxy(place.broker_url) as proxy:
        yield proxy


@pytest.fixture
def to_redis(place: Place) -> Iterator[Proxy]:
    """The way to Redis, for services that are given its address."""
    with Proxy(place.result_url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def httpbin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a real httpbin."""
    with run_httpbin(tmp_path_factory.mktemp("httpbin")) as url:
        yield url


@pytest.fixture
def smtp() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    yield server
    server.stop()
