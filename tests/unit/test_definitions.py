"""The definitions that RabbitMQ imports when it starts, as deploy/rabbitmq writes them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from local_stack.private_servers import SERVICE_USERS
from local_stack.programs import basic_env

PROJECT = Path(__file__).parents[2] / "deploy/rabbitmq"
NAMES = {
    "RABBITMQ_DEFAULT_USER": "ana",
    "RABBITMQ_DEFAULT_PASS": "ofAna",
    "RABBITMQ_API_PASS": "ofApi",
    "RABBITMQ_WORKER_IO_PASS": "ofIo",
    "RABBITMQ_WORKER_CPU_PASS": "ofCpu",
    "RABBITMQ_BEAT_PASS": "ofBeat",
    "RABBITMQ_FLOWER_PASS": "ofFlower",
}


def render(folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROJECT / "render-definitions"), str(folder / "definitions")],
        env=basic_env(**NAMES | changes),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def users(tmp_path: Path) -> dict[str, Any]:
    done = render(tmp_path)
    assert done.returncode == 0, done.stderr
    definitions: dict[str, Any] = json.loads((tmp_path / "definitions/3-users.json").read_text())
    return definitions


def test_every_service_and_the_administrator_have_a_user(users: dict[str, Any]) -> None:
    passwords = {user["name"]: user["password"] for user in users["users"]}
    assert passwords == {
        "ana": "ofAna",
        "api": "ofApi",
        "worker-io": "ofIo",
        "worker-cpu": "ofCpu",
        "beat": "ofBeat",
        "flower": "ofFlower",
    }
    assert set(SERVICE_USERS) == passwords.keys() - {"ana"}
    assert {user["name"] for user in users["users"] if user["tags"] == "administrator"} == {"ana"}


def test_permissions_are_for_whole_names(users: dict[str, Any]) -> None:
    # RabbitMQ looks for the pattern anywhere in a name: without anchors, `jobs` fits jobs.cpu too.
    for permission in (*users["permissions"], *users["topic_permissions"]):
        if permission["user"] != "ana":
            for kind in {"configure", "write", "read"} & permission.keys() - {"why"}:
                pattern = permission[kind]
                assert pattern == ".*" or (pattern[0], pattern[-1]) == ("^", "$")
    assert len(users["permissions"]) == len(users["users"])


def test_workers_differ_in_their_lane_only(users: dict[str, Any]) -> None:
    io, cpu = (
        [
            {name: value for name, value in permission.items() if name != "why"}
            for permission in (*users["permissions"], *users["topic_permissions"])
            if permission["user"] == user
        ]
        for user in ("worker-io", "worker-cpu")
    )
    as_cpu = (
        json.dumps(io).replace("worker-io", "worker-cpu").replace("jobs\\\\.io", "jobs\\\\.cpu")
    )
    assert json.loads(as_cpu) == cpu


def test_what_is_imported_first_has_what_the_others_need(tmp_path: Path) -> None:
    render(tmp_path)
    files = sorted((tmp_path / "definitions").iterdir())
    assert [file.name for file in files] == ["1-topology.json", "2-limits.json", "3-users.json"]
    assert "vhosts" in json.loads(files[0].read_text())


def test_passwords_are_for_the_server_alone(tmp_path: Path) -> None:
    render(tmp_path)
    assert (tmp_path / "definitions/3-users.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("RABBITMQ_API_PASS", "with/slash", "RABBITMQ_API_PASS must be set, to letters and digits"),
        ("RABBITMQ_BEAT_PASS", "", "RABBITMQ_BEAT_PASS must be set, to letters and digits"),
        ("RABBITMQ_DEFAULT_USER", "guest", "RABBITMQ_DEFAULT_USER can't be guest"),
        ("RABBITMQ_DEFAULT_USER", "api", "RABBITMQ_DEFAULT_USER can't be api"),
    ],
)
def test_name_or_password_that_can_not_be_used_is_said_in_one_line(
    tmp_path: Path, name: str, value: str, message: str
) -> None:
    done = render(tmp_path, **{name: value})
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "definitions/3-users.json").exists()
