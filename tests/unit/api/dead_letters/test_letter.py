import json
from datetime import UTC, datetime
from typing import Any

import pytest
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from api.dead_letters.letter import DeadLetter, Death
from api.dead_letters.message import revive
from api.dead_letters.requeue import KnownLetter
from api.errors.types import DeadLetterNotRequeueable
from contracts.lanes import DELIVERY_LIMIT
from contracts.records import AttemptError

DIED_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
STAGE = {"task": "io.send_report", "options": {"task_id": "a-job", "queue": "jobs.io"}}
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def x_death(reason: str, queue: str = "jobs.io") -> dict[str, Any]:
    return {"reason": reason, "queue": queue, "count": 1, "time": DIED_AT}


def letter(
    headers: dict[str, Any] | None = None, body: object = None, content_type: str | None = None
) -> DeadLetter:
    known: dict[str, Any] = {
        "id": "a-job",
        "task": "io.fetch_url",
        "x-death": [x_death("rejected")],
    }
    properties = Basic.Properties(
        headers=known if headers is None else headers,
        content_type=content_type or "application/json",
    )
    content = json.dumps([[], {}, EMBED] if body is None else body).encode()
    return DeadLetter.of(
        DeliveredMessage(
            delivery=Basic.Deliver(delivery_tag=1),
            header=ContentHeader(properties=properties),
            body=content,
            channel=None,  # type: ignore[arg-type]  # nothing is asked of it
        )
    )


def test_newest_death_counts_and_not_that_in_a_delay_queue() -> None:
    deaths = [x_death("rejected"), x_death("expired", "celery_delayed_0")]
    death = Death.of({"x-death": deaths, "x-first-death-reason": "expired"})
    assert (death.reason, death.queue, death.died_at) == ("rejected", "jobs.io", DIED_AT)


def test_delivery_limit_tells_the_count_whatever_the_broker_writes() -> None:
    # RabbitMQ 3.10 counts anew in the dead letters' queue, readers included.
    for written in ({}, {"x-delivery-count": 40}, {"x-delivery-count": 6, "x-acquired-count": 6}):
        death = Death.of({"x-death": [x_death("delivery_limit")]} | written)
        assert death.deliveries == DELIVERY_LIMIT + 1


def test_deliveries_before_a_rejection_are_known_from_rabbitmq_4_3_on() -> None:
    rejected = {"x-death": [x_death("rejected")], "x-delivery-count": 2}
    assert Death.of(rejected).deliveries is None
    assert Death.of(rejected | {"x-acquired-count": 7}).deliveries == 2


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"x-death": "no table"},
        {"x-death": []},
        {"x-death": [{"reason": 1, "time": "yesterday", "count": "x"}]},
        {"id": 7, "root_id": "", "submitted_at": "never", "requeues": True},
    ],
)
def test_headers_of_anybody_are_read(headers: dict[str, Any] | None) -> None:
    death = Death.of(headers)
    assert (death.job_id, death.reason, death.count, death.requeues) == (None, "unknown", 1, 0)


def test_story_names_reason_and_count() -> None:
    story = Death.of({"x-death": [x_death("delivery_limit")]}).story
    assert story.startswith("the broker gave it up after 6 deliveries (delivery_limit): each")


def test_letter_has_the_same_id_at_every_reading() -> None:
    headers = {"id": "a-job", "x-death": [x_death("rejected")]}
    again = headers | {"x-delivery-count": 9, "x-acquired-count": 3}
    assert letter(headers).id == letter(again).id


@pytest.mark.parametrize(
    "other",
    [
        {"id": "another", "x-death": [x_death("rejected")]},
        {"id": "a-job", "x-death": [x_death("delivery_limit")]},
        {"id": "a-job", "x-death": [x_death("rejected")], "requeues": 1},
        {"id": "a-job", "x-death": [x_death("rejected") | {"time": datetime.now(UTC)}]},
    ],
)
def test_letters_of_different_deaths_have_different_ids(other: dict[str, Any]) -> None:
    assert letter({"id": "a-job", "x-death": [x_death("rejected")]}).id != letter(other).id


def test_copies_have_ids_of_their_own() -> None:
    first = letter()
    assert len({first.copy_number(n).id for n in (1, 2, 3)}) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("attempt 1 failed", "attempt 23 failed"),
        ("no file 'a.csv'", "no file 'another one.csv'"),
        ("job 0e1c2d3f-1111-2222-3333-444455556666", "job 9e1c2d3f-1111-2222-3333-44445555aaaa"),
        ("sha256 0011223344aabb", "sha256 ffee0011aa9988"),
    ],
)
def test_fingerprint_ignores_what_varies(one: str, other: str) -> None:
    assert fingerprint("RetryableError", one) == fingerprint("RetryableError", other)


def test_fingerprint_tells_causes_apart() -> None:
    prints = {
        fingerprint("RetryableError", "refused"),
        fingerprint("RetryableError", "timed out"),
        fingerprint("RejectedError", "refused"),
        KnownLetter(letter()).fingerprint,
    }
    assert len(prints) == 4


def fingerprint(error_type: str, message: str) -> str:
    error = AttemptError(type=error_type, message=message)
    return KnownLetter(letter(), error=error).fingerprint


def test_revival_is_the_message_as_it_was_before_it_died() -> None:
    headers = {
        "id": "a-job",
        "root_id": "a-job",
        "task": "io.fetch_url",
        "retries": 4,
        "x-death": [x_death("rejected")],
        "x-first-death-reason": "rejected",
        "x-last-death-queue": "jobs.io",
        "x-delivery-count": 6,
        "x-acquired-count": 6,
    }
    revival = revive(letter(headers), "a-job", 3)
    assert revival.queue == "jobs.io"
    assert revival.properties.headers == {
        "id": "a-job",
        "root_id": "a-job",
        "task": "io.fetch_url",
        "retries": 0,
        "requeues": 3,
    }


def test_revival_marks_the_stages_to_come() -> None:
    body = [[], {"month": "2025-01"}, EMBED | {"chain": [STAGE]}]
    revived = json.loads(revive(letter(body=body), "a-job", 2).body)
    assert revived[1] == {"month": "2025-01"}
    assert revived[2]["chain"][0]["options"]["headers"] == {"requeues": 2}


@pytest.mark.parametrize(
    "dead",
    [
        letter({"id": "a-job", "task": "io.unheard_of"}),
        letter({"id": "a-job"}),
        letter(content_type="application/x-python-serialize"),
        letter(body={"no": "list"}),
        letter(body=[[], {}]),
        letter(body=[[], {}, None]),
        letter(body=[[], {}, {"chain": [None]}]),
    ],
)
def test_message_that_no_worker_could_read_is_not_revived(dead: DeadLetter) -> None:
    with pytest.raises(DeadLetterNotRequeueable):
        revive(dead, "a-job", 1)
