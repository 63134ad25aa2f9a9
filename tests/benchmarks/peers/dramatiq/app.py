"""FastAPI and dramatiq: `send` blocks, so the route is a `def`, which FastAPI gives to a thread.

The broker is as dramatiq's guide has it: a durable queue, persistent messages, no confirms.
"""

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from fastapi import FastAPI

from benchmarks.peers.answer import Accepted, Sum, accepted

dramatiq.set_broker(RabbitmqBroker(url=os.environ["BROKER_URL"]))
app = FastAPI()


@dramatiq.actor
def add(a: int, b: int) -> int:
    return a + b


@app.post("/jobs", status_code=202)
def submit(numbers: Sum) -> Accepted:
    return accepted(add.send(numbers.a, numbers.b).message_id)
