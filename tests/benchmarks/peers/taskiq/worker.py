"""taskiq over aio-pika with results in Redis.

`python -m … N` publishes N sums. A quorum queue is its default.
"""

import asyncio
import os
import sys

from taskiq_aio_pika import AioPikaBroker
from taskiq_redis import RedisAsyncResultBackend

results = RedisAsyncResultBackend(os.environ["RESULT_URL"], result_ex_time=7 * 24 * 3600)
# As many messages as a process runs at once, instead of ten.
broker = AioPikaBroker(os.environ["BROKER_URL"], qos=100).with_result_backend(results)


@broker.task(task_name="sum_numbers")  # or its name would depend on how this module is started
async def sum_numbers(a: int, b: int) -> dict[str, int]:
    """Add two integers."""
    return {"total": a + b}


async def main(count: int) -> None:
    """Publish sums, and print under which key each result will be."""
    await broker.startup()
    turns = asyncio.Semaphore(100)

    async def send() -> str:
        async with turns:
            task = await sum_numbers.kiq(2, 3)
            return str(task.task_id)

    for key in await asyncio.gather(*(send() for _ in range(count))):
        print(key)  # noqa: T201 - a program's output
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
