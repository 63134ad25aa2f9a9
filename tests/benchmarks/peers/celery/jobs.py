"""The demonstrations' Celery: nothing set but where broker and results are.

A broker of amqp:// has a quorum queue and confirms every message, as ours does.
"""

import os

from celery import Celery
from kombu import Queue

app = Celery("peer", broker=os.environ["BROKER_URL"], backend=os.environ["RESULT_URL"])
if os.environ["BROKER_URL"].startswith("amqp"):
    app.conf.update(
        task_queues=[Queue("celery", queue_arguments={"x-queue-type": "quorum"})],
        broker_transport_options={"confirm_publish": True},
    )


@app.task
def add(a: int, b: int) -> int:
    return a + b
