from datetime import UTC, datetime
from typing import Any

import pytest

from api.dead_letters.letter import Death
from contracts.topology import DELIVERY_LIMIT
from unit.api.dead_letters.letters import DIED_AT, letter, x_death


def test_newest_death_counts_and_not_that_in_a_delay_queue() -> None:
    deaths = [x_death("rejected"), x_death("expired", "celery_delayed_0")]
    death = Death.of({"x-death": deaths, "x-first-death-reason": "expired"})
    assert (death.reason, death.queue, death.died_at) == ("rejected", "jobs.io", DIED_AT)


def test_delivery_limit_means_a_known_count_whatever_the_broker_writes() -> None:
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


def test_description_names_reason_and_count() -> None:
    description = Death.of({"x-death": [x_death("delivery_limit")]}).description
    assert description.startswith("the broker gave it up after 6 deliveries (delivery_limit): each")


def test_letter_has_the_same_id_whenever_it_is_read() -> None:
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
