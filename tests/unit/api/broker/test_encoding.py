import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pamqp.frame
import pytest
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from pydantic import SecretStr

from api.broker.encoding import JobFrames, properties
from contracts.celery_app import create_celery
from contracts.messages import build_message
from contracts.records import JobRecord, new_record
from contracts.settings import SharedSettings
from twinlane_sdk.task_spec import TaskSpec
from twinlane_tasks.catalogue import bundled_tasks
from twinlane_tasks.http import FAN_OUT, FanOutArgs
from twinlane_tasks.sums import SUM_NUMBERS, SumArgs

CATALOGUE = bundled_tasks()
CELERY = create_celery(
    SharedSettings(
        broker_url=SecretStr("amqp://nobody:nothing@127.0.0.1:1//"),
        result_url=SecretStr("redis://127.0.0.1:1/0"),
    ),
    CATALOGUE,
)
CHANNEL = 1
MAX_FRAME_BYTES = 4_096
NOW = datetime.now(UTC)
EVERY_TASK = pytest.mark.parametrize("spec", CATALOGUE.values(), ids=CATALOGUE)


class Published(NamedTuple):
    """A message, as any AMQP client reads it."""

    method: Basic.Publish
    properties: Basic.Properties
    body: bytes
    sizes: list[int]


def read(data: bytes) -> Published:
    frames: list[Any] = []
    sizes = []
    while data:
        size, channel, frame = pamqp.frame.unmarshal(data)
        assert channel == CHANNEL
        frames.append(frame)
        sizes.append(size)
        data = data[size:]
    method, header, *contents = frames
    assert isinstance(method, Basic.Publish)
    assert isinstance(header, ContentHeader)
    assert all(isinstance(content, ContentBody) for content in contents)
    body = b"".join(content.value for content in contents)
    assert header.body_size == len(body)
    return Published(method, header.properties, body, sizes)


def example(
    spec: TaskSpec[Any, Any],
    job_id: str,
    run_at: datetime | None = None,
    batch: str | None = None,
) -> JobRecord:
    fields = spec.args.model_fields.items()
    args = spec.args(**{name: field.examples[0] for name, field in fields if field.examples})
    return new_record(spec, args, job_id=job_id, ttl_seconds=60, run_at=run_at, batch=batch)


def frames_of_a_channel() -> JobFrames:
    return JobFrames(CELERY, CATALOGUE, CHANNEL, MAX_FRAME_BYTES)


@EVERY_TASK
def test_every_message_is_what_celery_builds(spec: TaskSpec[Any, Any]) -> None:
    frames = frames_of_a_channel()
    batches = (None, "batch-1", "batch-2", None)  # the first shows Celery's work to those after it
    for number, batch in enumerate(batches):
        record = example(spec, f"job-{number}", batch=batch)
        published = read(frames.encode(record, NOW))
        celerys = build_message(CELERY, CATALOGUE, record)
        expected = properties(record, celerys)
        expected.timestamp = record.submitted_at.replace(microsecond=0)
        assert published.properties == expected
        assert json.loads(published.body) == json.loads(celerys.body)


@EVERY_TASK
def test_message_goes_to_the_queue_of_its_first_stage_and_comes_back_if_there_is_none(
    spec: TaskSpec[Any, Any],
) -> None:
    method = read(frames_of_a_channel().encode(example(spec, "job-1"), NOW)).method
    assert (method.exchange, method.routing_key) == ("jobs", spec.stages[0].lane.queue_name)
    assert method.mandatory


def test_job_of_another_day_goes_by_way_of_the_delays() -> None:
    record = example(SUM_NUMBERS, "job-1", run_at=NOW + timedelta(seconds=5))
    method = read(frames_of_a_channel().encode(record, NOW)).method
    assert method.exchange == "celery_delayed_27"
    assert method.routing_key.endswith("1.0.1.jobs.cpu")


def test_arguments_are_the_jobs_own() -> None:
    frames = frames_of_a_channel()
    for a in range(3):
        record = new_record(SUM_NUMBERS, SumArgs(a=a, b=1), job_id=f"job-{a}", ttl_seconds=60)
        _, arguments, _ = json.loads(read(frames.encode(record, NOW)).body)
        assert arguments == {"a": a, "b": 1}


def test_long_message_comes_in_frames_that_the_broker_takes() -> None:
    urls = [f"http://127.0.0.1/{number}" for number in range(400)]
    args = FanOutArgs.model_validate({"urls": urls})
    record = new_record(FAN_OUT, args, job_id="job-1", ttl_seconds=60)
    published = read(frames_of_a_channel().encode(record, NOW))
    assert json.loads(published.body)[1] == {"urls": urls}
    assert max(published.sizes) == MAX_FRAME_BYTES
