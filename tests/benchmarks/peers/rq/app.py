"""FastAPI and RQ: `enqueue` blocks, so the route is a `def`, which FastAPI gives to a thread."""

import os

from fastapi import FastAPI
from redis import Redis
from rq import Queue

from benchmarks.peers.answer import Accepted, Sum, accepted

queue = Queue(connection=Redis.from_url(os.environ["RESULT_URL"]))
app = FastAPI()


@app.post("/jobs", status_code=202)
def submit(numbers: Sum) -> Accepted:
    return accepted(queue.enqueue("benchmarks.peers.rq.jobs.add", numbers.a, numbers.b).id)
