"""FastAPI and taskiq as taskiq's documentation joins them: the broker lives as long as the app."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Query

from benchmarks.peers.answer import Accepted, Batch, Sum, Total, accepted, batch
from benchmarks.peers.taskiq.jobs import add, broker


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await broker.startup()
    yield
    await broker.shutdown()


app = FastAPI(lifespan=lifespan)


@app.post("/jobs", status_code=202)
async def submit(numbers: Sum) -> Accepted:
    job = await add.kiq(numbers.a, numbers.b)
    return accepted(job.task_id)


@app.post("/results")
async def submit_and_wait(numbers: Sum, every: Annotated[float, Query()] = 0.2) -> Total:
    job = await add.kiq(numbers.a, numbers.b)
    result = await job.wait_result(check_interval=every, timeout=10)
    return Total(result=result.return_value)


@app.post("/batches", status_code=202)
async def submit_all(items: list[Sum]) -> Batch:
    jobs = await asyncio.gather(*(add.kiq(numbers.a, numbers.b) for numbers in items))
    return batch([job.task_id for job in jobs])
