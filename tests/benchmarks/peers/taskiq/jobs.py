"""taskiq over aio-pika with its defaults: a quorum queue, persistent and confirmed messages."""

import os

from taskiq_aio_pika import AioPikaBroker
from taskiq_redis import RedisAsyncResultBackend

# Results that nobody deletes fill Redis: an expiry is what the documentation asks for.
results = RedisAsyncResultBackend(os.environ["RESULT_URL"], result_ex_time=3600)
broker = AioPikaBroker(os.environ["BROKER_URL"]).with_result_backend(results)


@broker.task
async def add(a: int, b: int) -> int:
    return a + b
