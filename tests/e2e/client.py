"""The API as a client program meets it: nothing here knows more than the routes."""

import os
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final, Self, TypeAlias

import httpx2

Json: TypeAlias = dict[str, Any]

TERMINAL: Final = {"succeeded", "failed", "cancelled"}
PROBLEM_TYPE: Final = "application/problem+json"
_LONG_POLL_SECONDS: Final = 10
_PASSING_POLL_SECONDS: Final = 0.2
"""For states that pass: a change between two requests is not announced by the second."""


class Api:
    """One client with its own connections."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.http = httpx2.Client(base_url=base_url, timeout=75, headers=key_headers())
        self.get = self.http.get
        self.post = self.http.post

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def read(self, path: str, **params: str | float) -> Json:
        """GET something that must be there."""
        return _body(self.get(path, params=params), 200)

    def accepted(self, path: str, **params: str | float) -> str:
        """POST to a demonstration route and return the id of the job."""
        task_id: str = _body(self.post(path, params=params), 202)["task_id"]
        return task_id

    def submit(self, task: str, args: Json, **params: str | float) -> str:
        """Submit a job and return its id."""
        answer = self.post(f"/v1/tasks/{task}/jobs", json=args, params=params)
        job_id: str = _body(answer, 202)["id"]
        return job_id

    def submit_batch(self, items: Iterable[Json]) -> Json:
        """Submit many jobs and return what became of each."""
        return _body(self.post("/v1/batches", json=list(items)), 202)

    def run(self, task: str, args: Json) -> Json:
        """Submit a job and return it as it ended."""
        return self.ended(self.submit(task, args))

    def ended(self, job_id: str, within_seconds: float = 120) -> Json:
        """Return a job once it is terminal."""
        return self._until(
            job_id, lambda job: job["state"] in TERMINAL, within_seconds, _LONG_POLL_SECONDS
        )

    def succeeded(self, job_id: str) -> Json:
        """Return the result of a job that must succeed."""
        job = self.ended(job_id)
        assert job["state"] == "succeeded", job
        result: Json = job["result"]
        return result

    def failed(self, job_id: str) -> Json:
        """Return the problem of a job that must fail."""
        job = self.ended(job_id)
        assert job["state"] == "failed", job
        error: Json = job["error"]
        return error

    def awaited(
        self, job_id: str, condition: Callable[[Json], bool], within_seconds: float = 120
    ) -> Json:
        """Return a job once it fulfils a condition that may pass again."""
        return self._until(job_id, condition, within_seconds, _PASSING_POLL_SECONDS)

    def _until(
        self,
        job_id: str,
        condition: Callable[[Json], bool],
        within_seconds: float,
        poll_seconds: float,
    ) -> Json:
        deadline = time.monotonic() + within_seconds
        job = self.read(f"/v1/jobs/{job_id}")
        while not condition(job):
            assert time.monotonic() < deadline, f"waited {within_seconds} s for {job}"
            assert job["state"] not in TERMINAL, f"this will not happen any more: {job}"
            job = self.read(f"/v1/jobs/{job_id}", wait=poll_seconds)
        return job

    def ended_batch(self, batch_id: str) -> Json:
        """Return a batch once all its jobs are terminal."""
        batch = self.read(f"/v1/batches/{batch_id}")
        for job in batch["jobs"]:
            if job["state"] not in TERMINAL:
                self.ended(job["id"])
        return self.read(f"/v1/batches/{batch_id}")

    def upload(self, filename: str, content: bytes) -> Json:
        """Upload a file as its bare content."""
        answer = self.post("/v1/files", params={"filename": filename}, content=content)
        return _body(answer, 201)

    def process(self, filename: str, content: bytes) -> Json:
        """Upload a file and return the job that has processed it."""
        self.upload(filename, content)
        return self.run("cpu.process_csv", {"filename": filename})


def key_headers() -> dict[str, str]:
    """Return the headers that a stack with API keys wants; TWINLANE_API_KEY has an admin's."""
    key = os.environ.get("TWINLANE_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def unique(prefix: str, suffix: str = "") -> str:
    """Return a name that nothing else in the stack has."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}{suffix}"


def problem(answer: httpx2.Response, status: int, code: str) -> Json:
    """Return the problem document that an answer must be."""
    body = _body(answer, status)
    assert answer.headers["Content-Type"] == PROBLEM_TYPE
    assert {"type", "title", "detail"} <= body.keys()
    assert (body["status"], body["code"]) == (status, code), body
    return body


def _body(answer: httpx2.Response, status: int) -> Json:
    assert answer.status_code == status, f"{answer.status_code}: {answer.text[:1000]}"
    body: Json = answer.json()
    return body
