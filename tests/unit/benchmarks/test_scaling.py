from benchmarks.backlog import Pace
from benchmarks.measures.scaling import flat, linear


def pace(jobs_per_second: float, busy_share: float = 0.5) -> list[Pace]:
    return [Pace(jobs_per_second, 1.0, busy_share)]


def test_twice_the_services_must_do_nearly_twice_the_jobs() -> None:
    assert linear("jobs", {1: pace(100), 2: pace(200), 4: pace(380)}).met
    assert not linear("jobs", {1: pace(100), 2: pace(200), 4: pace(300)}).met


def test_full_cores_are_the_end_of_linear() -> None:
    assert linear("jobs", {1: pace(100), 2: pace(150, 0.95), 4: pace(160, 0.97)}).met


def test_every_depth_is_held_against_the_shallowest() -> None:
    verdicts = flat({1_000: pace(100), 10_000: pace(95), 100_000: pace(80)})

    assert [verdict.met for verdict in verdicts] == [True, False]
