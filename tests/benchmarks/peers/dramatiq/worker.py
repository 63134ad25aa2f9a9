"""dramatiq over RabbitMQ with results in Redis; `python -m … N` publishes N sums.

Its queues are classic ones: it can declare no others.
"""

import os
import sys

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

results = RedisBackend(url=os.environ["RESULT_URL"])
broker = RabbitmqBroker(url=os.environ["BROKER_URL"], confirm_delivery=True)
broker.add_middleware(Results(backend=results, store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def sum_numbers(a: int, b: int) -> dict[str, int]:
    """Add two integers."""
    return {"total": a + b}


def main(count: int) -> None:
    """Publish sums, and print under which key each result will be."""
    for _ in range(count):
        message = sum_numbers.send(2, 3)
        print(results.build_message_key(message))  # noqa: T201 - a program's output


if __name__ == "__main__":
    main(int(sys.argv[1]))
