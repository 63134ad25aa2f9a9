"""Every example of the README and the tour runs as written and answers what is shown there.

Ids, times and figures differ from run to run; compared is the shape of each answer: the keys of a
JSON document, the status line of a response with headers, the first line of anything else.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from e2e.client import key_headers
from e2e.conftest import Stack
from local_stack.install import ensure_programs

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/tour.md")
END = "\x1e"
_COMPARED = 25


class Example(NamedTuple):
    command: str
    shown: str


def _examples(document: str) -> list[Example]:
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    parts = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)]
    return [
        Example(command, shown.strip())
        for part in parts
        if part
        for command, _, shown in [part.partition("\n")]
    ]


def _run(commands: list[str], folder: Path) -> list[str]:
    script = "\n".join(f"{command}\nprintf '{END}'" for command in commands)
    finished = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=os.environ | {"CURL_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [answer.replace("\r", "").strip() for answer in finished.stdout.split(END)[:-1]]


def _shape(document: object) -> object:
    match document:
        case dict():
            return {key: _shape(value) for key, value in document.items() if value is not None}
        case list():
            return [_shape(document[0])] if document else []
        case _:
            return type(document).__name__


def _outline(text: str) -> object:
    try:
        document = json.loads(text)
    except ValueError:
        return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<id>", text.partition("\n")[0])[:_COMPARED]
    return sorted(document) if isinstance(document, dict) else _shape(document)


@pytest.fixture(autouse=True, scope="module")
def curl() -> None:
    ensure_programs({"curl": "curl"})


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_example_answers_as_shown(stack: Stack, tmp_path: Path, document: str) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    settings = [f'header = "{name}: {value}"\n' for name, value in key_headers().items()]
    (tmp_path / ".curlrc").write_text("".join(settings))
    examples = _examples(document)
    commands = [
        example.command.replace("localhost:8000", urlsplit(stack.api_url).netloc).replace(
            "HTTPBIN=http://127.0.0.1:8080", f"HTTPBIN={stack.httpbin_url}"
        )
        for example in examples
    ]

    answers = _run(commands, tmp_path)

    outlines = {e.command: _outline(answer) for e, answer in zip(examples, answers, strict=True)}
    assert outlines == {example.command: _outline(example.shown) for example in examples}
