"""FastAPI and arq as arq's documentation joins them: one pool of connections to Redis."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arq import create_pool
from arq.connections import RedisSettings
from fastapi import FastAPI, Request

from benchmarks.peers.answer import Accepted, Sum, accepted


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.jobs = await create_pool(RedisSettings.from_dsn(os.environ["RESULT_URL"]))
    yield
    await app.state.jobs.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/jobs", status_code=202)
async def submit(numbers: Sum, request: Request) -> Accepted:
    job = await request.app.state.jobs.enqueue_job("add", numbers.a, numbers.b)
    return accepted(job.job_id)
