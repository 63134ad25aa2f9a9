"""FastAPI and Celery as the demonstrations join them: `.delay()` in an `async def`."""

from typing import cast

from celery import group
from celery.result import GroupResult
from fastapi import FastAPI

from benchmarks.peers.answer import Accepted, Batch, Sum, Total, accepted, batch
from benchmarks.peers.celery.jobs import add

app = FastAPI()


@app.post("/jobs", status_code=202)
async def submit(numbers: Sum) -> Accepted:
    return accepted(add.delay(numbers.a, numbers.b).id)


@app.post("/results")
def submit_and_wait(numbers: Sum) -> Total:
    return Total(result=add.delay(numbers.a, numbers.b).get(timeout=10))


@app.post("/batches", status_code=202)
def submit_all(items: list[Sum]) -> Batch:
    jobs = group(add.s(numbers.a, numbers.b) for numbers in items).apply_async()
    return batch([job.id for job in cast("GroupResult", jobs).results or ()])
