"""What every peer takes and answers: the shape of ours, as far as a peer knows its fields."""

from datetime import UTC, datetime

from pydantic import BaseModel


class Sum(BaseModel):
    """The arguments of the job."""

    a: int
    b: int


class Links(BaseModel):
    """Where to go from here."""

    self: str
    result: str


class Accepted(BaseModel):
    """A job that was handed over."""

    id: str
    task: str = "add"
    state: str = "queued"
    submitted_at: datetime
    links: Links


class Total(BaseModel):
    """The result of the job."""

    result: int


class Batch(BaseModel):
    """The ids of the jobs that were handed over together."""

    accepted: int
    ids: list[str]


def accepted(job_id: str) -> Accepted:
    base = f"/jobs/{job_id}"
    links = Links(self=base, result=f"{base}/result")
    return Accepted(id=job_id, submitted_at=datetime.now(UTC), links=links)


def batch(job_ids: list[str]) -> Batch:
    return Batch(accepted=len(job_ids), ids=job_ids)
