import json

import pytest

from api.dead_letters.letter import DeadLetter
from api.dead_letters.message import RequeuedMessage
from api.errors.types import DeadLetterNotRequeueable
from twinlane_tasks.catalogue import bundled_tasks
from unit.api.dead_letters.letters import EMBED, letter, x_death

TASKS = bundled_tasks()
STAGE = {"task": "io.send_report", "options": {"task_id": "a-job", "queue": "jobs.io"}}


def test_requeued_message_is_as_it_was_before_it_died() -> None:
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
    message = RequeuedMessage.of(TASKS, letter(headers), "a-job", 3)
    assert message.queue == "jobs.io"
    assert message.properties.headers == {
        "id": "a-job",
        "root_id": "a-job",
        "task": "io.fetch_url",
        "retries": 0,
        "requeues": 3,
    }


def test_requeued_message_marks_the_stages_to_come() -> None:
    body = [[], {"month": "2025-01"}, EMBED | {"chain": [STAGE]}]
    _, arguments, embed = json.loads(RequeuedMessage.of(TASKS, letter(body=body), "a-job", 2).body)
    assert arguments == {"month": "2025-01"}
    assert embed["chain"][0]["options"]["headers"] == {"requeues": 2}


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
def test_message_that_no_worker_could_read_is_not_requeued(dead: DeadLetter) -> None:
    with pytest.raises(DeadLetterNotRequeueable):
        RequeuedMessage.of(TASKS, dead, "a-job", 1)
