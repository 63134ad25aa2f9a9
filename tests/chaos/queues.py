"""A lane's queue as something that can be full, or gone."""

from integration.broker import Broker
from servers import eventually
from twinlane_sdk.lanes import Lane


class LaneQueue:
    """The queue of a lane in the test's virtual host."""

    def __init__(self, broker: Broker, lane: Lane) -> None:
        self._broker = broker
        self.name = lane.queue_name

    def fill(self) -> None:
        """Allow one message only: what is there already makes it full."""
        self._broker.limit_queue(self.name, messages=1)

    def drain(self) -> None:
        """Allow as many as before."""
        self._broker.unlimit_queue()

    def purge(self) -> None:
        """Take out what waits."""
        with self._broker.channel() as channel:
            channel.queue_purge(self.name)

    def is_empty(self) -> bool:
        return self._broker.ready(self.name) == 0 and self._broker.unacknowledged(self.name) == 0

    def wait_until_empty(self, within_seconds: float = 60) -> None:
        assert eventually(self.is_empty, within_seconds), f"{self.name} is not empty"
