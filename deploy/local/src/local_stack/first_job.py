"""One real job through a running stack: a CSV is uploaded, cleaned and imported."""

import time
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx2

from local_stack.errors import StackError

_JOB_SECONDS: Final = 120
_WAIT_SECONDS: Final = 30
"""How long the API is asked to wait for the job before it answers."""
_TERMINAL: Final = {"succeeded", "failed", "cancelled"}


class FirstJobError(StackError):
    """The job did not succeed; says what the API answered."""


def run_first_job(api_url: str, csv: Path, key: str | None = None) -> dict[str, Any]:
    """Send a CSV through the stack and return the job as the API shows it in the end.

    On a stack that is busy already, it may still be queued behind others.

    Raises:
        FirstJobError: the API can't be reached or refuses, or the job did not succeed.

    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx2.Client(
            base_url=f"{api_url}/v1",
            timeout=_WAIT_SECONDS + 15,  # to answer may take a moment longer
            headers=headers,
        ) as api:
            job = _until_terminal(api, _submit(api, csv))
    except httpx2.HTTPError as exc:
        raise FirstJobError(f"the API at {api_url} could not be reached: {exc}") from exc
    if job["state"] not in {"succeeded", "queued"}:
        raise FirstJobError(f"job {job['id']} is {job['state']}: {job}")
    return job


def summary(job: dict[str, Any]) -> list[str]:
    """Return what a person wants to know of the job, a line each."""
    if job["state"] == "queued":
        return ["it still waits: the cpu lane is busy with jobs that came before"]
    result = job["result"]
    rows, clean, bad = result["rows_in"], result["rows_clean"], result["rows_quarantined"]
    lines = [f"{result['filename']}: {rows:,} rows, {clean:,} clean, {bad:,} quarantined"]
    if sales := result.get("sales"):
        lines.append(f"imported {sales['rows']:,} sales of {', '.join(sales['months'])}")
    lines.append(f"files: {', '.join(result['artifacts'])}")
    return lines


def _submit(api: httpx2.Client, csv: Path) -> dict[str, Any]:
    with csv.open("rb") as content:
        _ask(api, "POST", "/files", files={"file": (csv.name, content, "text/csv")})
    return _ask(
        api,
        "POST",
        "/tasks/cpu.process_csv/jobs",
        json={"filename": csv.name},
        headers={"Prefer": f"wait={_WAIT_SECONDS}"},
    )


def _until_terminal(api: httpx2.Client, job: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + _JOB_SECONDS
    while job["state"] not in _TERMINAL or "result" not in job:
        if time.monotonic() > deadline:
            raise FirstJobError(f"job {job['id']} is still {job['state']} after {_JOB_SECONDS} s")
        job = _ask(api, "GET", f"/jobs/{job['id']}", params={"wait": "10"})
        if job["state"] in _TERMINAL or (job["state"] == "queued" and _is_busy(api)):
            break
    return job


def _is_busy(api: httpx2.Client) -> bool:
    lanes = _ask(api, "GET", "/lanes")["lanes"]
    return any(lane["lane"] == "cpu" and lane["ready"] and lane["running"] for lane in lanes)


def _ask(api: httpx2.Client, method: str, path: str, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - httpx2's own arguments
    answer = api.request(method, path, **request)
    if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise FirstJobError(f"TWINLANE_API_KEY won't do: {answer.json()['detail']}")
    if not answer.is_success:
        raise FirstJobError(f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")
    body: dict[str, Any] = answer.json()
    return body
