"""The catalogue against its record in catalogue.json.

A change there is a change of what travels between deployed services: a rename or a new required
field loses jobs that are queued already. To accept one, write the record anew and read the diff:

    TWINLANE_RECORD=1 pytest tests/unit/tasks/test_catalogue.py
"""

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from twinlane_sdk.lanes import Lane
from twinlane_sdk.task_spec import TaskSpec
from twinlane_tasks.catalogue import bundled_tasks
from twinlane_tasks.http import FETCH_URL
from twinlane_tasks.reports import RENDER_REPORT, SEND_REPORT

CATALOGUE = bundled_tasks()
RECORDED = Path(__file__).with_name("catalogue.json")
SPECS = pytest.mark.parametrize("spec", CATALOGUE.values(), ids=CATALOGUE)


def wire_form(schema: Any) -> Any:  # noqa: ANN401 - JSON Schema
    """Leave out of a JSON Schema what is meant for people."""
    if isinstance(schema, list):
        return [wire_form(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    for_people: dict[str, type | tuple[()]] = {"title": str, "description": str, "examples": list}
    return {
        key: wire_form(value)
        for key, value in schema.items()
        if not isinstance(value, for_people.get(key, ()))
    }


def catalogue() -> dict[str, Any]:
    return {
        spec.name: {
            "lane": spec.lane.value,
            "stages": [stage.name for stage in spec.stages],
            "args": wire_form(spec.args.model_json_schema()),
            "result": wire_form(spec.result.model_json_schema(mode="serialization")),
        }
        for spec in CATALOGUE.values()
    }


def test_catalogue_is_as_recorded() -> None:
    present = json.dumps(catalogue(), indent=2, sort_keys=True) + "\n"
    if os.environ.get("TWINLANE_RECORD"):
        RECORDED.write_text(present)
    assert json.loads(present) == json.loads(RECORDED.read_text()), __doc__


@SPECS
def test_name_is_the_lane_a_verb_and_a_noun(spec: TaskSpec[Any, Any]) -> None:
    assert re.fullmatch(rf"{spec.lane}\.[a-z]+_[a-z_]+", spec.name)


@SPECS
def test_every_task_keeps_within_the_consumer_timeout_of_rabbitmq(
    spec: TaskSpec[Any, Any],
) -> None:
    # An over-long task would be delivered again and again (RabbitMQ 4.3); it has 30 minutes.
    assert timedelta(seconds=1) <= spec.deadline <= timedelta(minutes=29)


def test_every_task_belongs_to_exactly_one_lane() -> None:
    assert CATALOGUE.names_on(Lane.IO) | CATALOGUE.names_on(Lane.CPU) == set(CATALOGUE)
    assert not CATALOGUE.names_on(Lane.IO) & CATALOGUE.names_on(Lane.CPU)


def test_report_is_rendered_on_the_cpu_lane_and_sent_from_the_io_lane() -> None:
    assert SEND_REPORT.stages == (RENDER_REPORT, SEND_REPORT)
    assert [stage.lane for stage in SEND_REPORT.stages] == [Lane.CPU, Lane.IO]


def test_task_without_an_earlier_stage_is_its_only_one() -> None:
    assert FETCH_URL.stages == (FETCH_URL,)


@SPECS
def test_later_stages_pass_every_required_argument_to_earlier_ones(
    spec: TaskSpec[Any, Any],
) -> None:
    for stage in spec.stages[:-1]:
        required = {n for n, field in stage.args.model_fields.items() if field.is_required()}
        assert required <= set(spec.args.model_fields)


@SPECS
def test_backoff_is_whole_seconds_from_one_up_and_never_shrinks(
    spec: TaskSpec[Any, Any],
) -> None:
    # The broker's delayed delivery knows whole seconds, and refuses less than one.
    for jitter in (0.0, 0.5, 0.999):
        waits = [spec.retry.backoff_seconds(n, jitter) for n in range(1, 100)]
        assert all(isinstance(wait, int) for wait in waits)
        assert waits == sorted(waits)
        assert min(waits) >= 1
        assert max(waits) <= spec.retry.max_seconds
