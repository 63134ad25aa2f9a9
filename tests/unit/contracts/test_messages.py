import json
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.worker.request import Request
from kombu import Message
from pydantic import SecretStr

from contracts.celery_app import create_celery
from contracts.messages import JobMessage, build_message
from contracts.records import JobRecord, new_record
from contracts.settings import SharedSettings
from twinlane_sdk.task_spec import Args, TaskSpec
from twinlane_tasks.catalogue import bundled_tasks
from twinlane_tasks.reports import SEND_REPORT, SendReportArgs
from twinlane_tasks.sums import SUM_NUMBERS, SumArgs

CATALOGUE = bundled_tasks()
NOBODY = SharedSettings(
    broker_url=SecretStr("amqp://nobody:nothing@127.0.0.1:1//"),
    result_url=SecretStr("redis://127.0.0.1:1/0"),
    job_ttl_seconds=3_600,
)
REPORT = SendReportArgs(email="ana@empresa.com", month="2025-01")


def record(spec: TaskSpec[Any, Any], args: Args) -> JobRecord:
    return new_record(spec, args, job_id="job-42", ttl_seconds=60)


def message(spec: TaskSpec[Any, Any], args: Args) -> JobMessage:
    return build_message(create_celery(NOBODY, CATALOGUE), CATALOGUE, record(spec, args))


def body(sent: JobMessage) -> Any:  # noqa: ANN401 - JSON
    return json.loads(sent.body)


def received(sent: JobMessage) -> Message:
    """Return the message as any AMQP client would get it."""
    return Message(
        body=sent.body.decode(),
        headers=json.loads(json.dumps(sent.headers)),  # whatever AMQP could not carry shows here
        content_type=sent.content_type,
        content_encoding=sent.content_encoding,
        properties={"correlation_id": sent.correlation_id},
    )


def test_message_is_protocol_2_in_json() -> None:
    sent = message(SUM_NUMBERS, SumArgs(a=2, b=3))
    assert (sent.content_type, sent.content_encoding) == ("application/json", "utf-8")
    assert sent.headers["task"] == "cpu.sum_numbers"
    assert sent.headers["lang"] == "py"
    args, kwargs, embedded = body(sent)
    assert args == []
    assert kwargs == {"a": 2, "b": 3}
    assert set(embedded) == {"callbacks", "errbacks", "chain", "chord"}


def test_id_of_the_task_is_that_of_the_job() -> None:
    sent = message(SUM_NUMBERS, SumArgs(a=2, b=3))
    assert sent.headers["id"] == sent.headers["root_id"] == sent.correlation_id == "job-42"


def test_message_says_when_it_was_submitted() -> None:
    sent = message(SUM_NUMBERS, SumArgs(a=2, b=3))
    submitted_at = datetime.fromisoformat(sent.headers["submitted_at"])
    assert submitted_at.tzinfo == UTC


def test_message_of_two_stages_is_the_first_with_the_second_chained() -> None:
    sent = message(SEND_REPORT, REPORT)
    assert (sent.headers["task"], sent.headers["id"]) == ("cpu.render_report", "job-42.1")
    assert sent.headers["root_id"] == "job-42"
    (second,) = body(sent)[2]["chain"]
    assert second["task"] == "io.send_report"
    assert second["options"]["task_id"] == "job-42"
    assert second["options"]["queue"] == "jobs.io"


def test_each_stage_gets_those_of_the_arguments_that_it_knows() -> None:
    _, first, embedded = body(message(SEND_REPORT, REPORT))
    assert first == {"month": "2025-01", "region": "all", "report_type": "vendas_mensal"}
    assert embedded["chain"][0]["kwargs"] == {**first, "email": "ana@empresa.com"}


def test_chain_of_three_stages_is_in_the_order_in_which_celery_takes_it() -> None:
    stages = record(SEND_REPORT, REPORT).stages
    three = record(SEND_REPORT, REPORT).model_copy(
        update={"stages": [stages[0].model_copy(update={"id": "job-42.0"}), *stages]}
    )
    chain = body(build_message(create_celery(NOBODY, CATALOGUE), CATALOGUE, three))[2]["chain"]
    # Celery takes the next one from the end.
    assert [task["options"]["task_id"] for task in chain] == ["job-42", "job-42.1"]


def test_integer_of_4000_digits_travels_exactly() -> None:
    sent = message(SUM_NUMBERS, SumArgs(a=10**4_000 - 1, b=1))
    assert body(sent)[1]["a"] == 10**4_000 - 1


def test_flower_is_shown_the_beginning_of_long_arguments() -> None:
    sent = message(SUM_NUMBERS, SumArgs(a=2, b=3))
    assert sent.headers["kwargsrepr"] == "{'a': 2, 'b': 3}"
    shown = message(SUM_NUMBERS, SumArgs(a=10**4_000 - 1, b=1)).headers["kwargsrepr"]
    assert shown.startswith("{'a': 999")
    assert len(shown) == 1_024


def test_celery_that_knows_nothing_of_twinlane_runs_the_message() -> None:
    stranger = Celery("stranger", broker="memory://", backend="cache+memory://")
    got: list[tuple[str, str, int, int]] = []

    @stranger.task(name="cpu.sum_numbers", bind=True, shared=False)
    def add(task: Any, a: int, b: int) -> int:  # noqa: ANN401 - a Celery task
        got.append((task.request.id, task.request.root_id, a, b))
        return a + b

    sent = received(message(SUM_NUMBERS, SumArgs(a=2, b=3)))
    Request(sent, app=stranger, task=add).execute()
    assert got == [("job-42", "job-42", 2, 3)]
    assert stranger.AsyncResult("job-42").get(timeout=1) == 5
