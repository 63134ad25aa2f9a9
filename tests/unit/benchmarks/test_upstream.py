import time
from pathlib import Path

import httpx2

from benchmarks.upstream import slow_upstream


def test_answer_comes_no_earlier_than_asked_for_and_the_connection_stays(tmp_path: Path) -> None:
    with slow_upstream(tmp_path) as url, httpx2.Client() as client:
        started = time.monotonic()
        answers = [client.get(f"{url}/delay/0.3")]
        waited = time.monotonic() - started
        own = _own_address(answers[0])
        answers.append(client.get(f"{url}/delay/0"))

        assert _own_address(answers[1]) == own

    assert waited >= 0.3
    assert [answer.status_code for answer in answers] == [200, 200]


def _own_address(answer: httpx2.Response) -> tuple[str, int]:
    address: tuple[str, int] = answer.extensions["network_stream"].get_extra_info("client_addr")
    return address
