from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from twinlane_sdk.lanes import Lane
from twinlane_tasks.catalogue import bundled_tasks
from worker_io.app import create_app
from worker_io.settings import WorkerIoSettings


def settings(folder: Path, **values: object) -> WorkerIoSettings:
    return WorkerIoSettings.model_validate(
        {
            "broker_url": SecretStr("amqp://nobody@127.0.0.1:1//"),
            "result_url": SecretStr("redis://127.0.0.1:1/0"),
            "storage_url": f"file://{folder}",
            **values,
        }
    )


def test_worker_implements_exactly_its_lanes_tasks(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path))
    assert {
        name for name in app.tasks if not name.startswith("celery.")
    } == bundled_tasks().names_on(Lane.IO)


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", "amqp://broker")
    monkeypatch.setenv("RESULT_URL", "redis://results")
    monkeypatch.setenv("FETCH_ALLOWED_HOSTS", "httpbin, *.example.com")
    monkeypatch.setenv("REPORT_ALLOWED_RECIPIENTS", "@empresa.com")
    monkeypatch.setenv("SMTP_STARTTLS", "true")
    monkeypatch.setenv("SMTP_USERNAME", "")
    read = WorkerIoSettings()
    assert read.allowed_hosts.allows("http://a.example.com/")
    assert read.allowed_recipients.allows("ana@empresa.com")
    assert read.smtp_starttls
    assert read.smtp_username is None
    assert read.io_concurrency == 512


def test_nothing_is_allowed_by_default(tmp_path: Path) -> None:
    assert not settings(tmp_path).allowed_hosts.allows("http://localhost/")
    assert not settings(tmp_path).allowed_recipients.allows("root@localhost")


def test_wrong_allow_list_keeps_the_worker_from_starting(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"allow-list entry '\*'"):
        create_app(settings(tmp_path, fetch_allowed_hosts="*"))


@pytest.mark.parametrize("sender", ["", "nobody", "a@b\r\nBcc: x@y.z"])
def test_sender_without_an_address_is_refused(tmp_path: Path, sender: str) -> None:
    with pytest.raises(ValidationError, match="mail_from"):
        settings(tmp_path, mail_from=sender)


@pytest.mark.parametrize("missing", ["BROKER_URL", "RESULT_URL"])
def test_wrong_settings_are_reported_without_the_passwords(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setenv("BROKER_URL", "amqp://user:hunter2@broker")
    monkeypatch.setenv("RESULT_URL", "redis://:hunter2@results")
    monkeypatch.setenv("SMTP_PASSWORD", "hunter2")
    monkeypatch.setenv("SMTP_PORT", "none")
    monkeypatch.delenv(missing)
    with pytest.raises(ValidationError) as refusal:
        WorkerIoSettings()
    reported = str(refusal.value)
    assert missing.lower() in reported
    assert "smtp_port" in reported
    assert "hunter2" not in reported


def test_no_host_may_be_at_a_private_address_by_default(tmp_path: Path) -> None:
    assert not settings(tmp_path).private_hosts.allows("http://localhost/")
    named = settings(tmp_path, fetch_private_hosts="httpbin, 127.0.0.1").private_hosts
    assert named.allows("http://httpbin/")
    assert named.allows("http://127.0.0.1:8080/")
