import pytest

from benchmarks.samples import Sample, figure, percentile


def test_sample_is_the_median_of_its_rounds_with_their_spread() -> None:
    sample = Sample((2310.0, 2250.0, 2400.0), "jobs/s")
    assert (sample.median, sample.low, sample.high) == (2310, 2250, 2400)
    assert str(sample) == "2,310 (2,250–2,400) jobs/s"


def test_single_round_has_no_spread_to_show() -> None:
    assert str(Sample((0.318,), "ms")) == "0.318 ms"


def test_sample_of_no_round_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one round"):
        Sample(())


def test_ratio_pairs_the_rounds_instead_of_the_medians() -> None:
    # The machine was twice as slow in the second round, for both.
    ours, theirs = Sample((300.0, 150.0, 310.0)), Sample((100.0, 50.0, 100.0))
    ratio = ours.over(theirs)
    assert ratio.values == (3.0, 3.0, 3.1)
    assert str(ratio) == "3.00 (3.00–3.10) ×"


def test_ratio_of_sides_with_different_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Sample((1.0, 2.0)).over(Sample((1.0,)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.0451, "0.0451"), (2.345, "2.35"), (23.45, "23.4"), (99999.6, "100,000")],
)
def test_figures_have_three_digits_or_are_whole(value: float, shown: str) -> None:
    assert figure(value) == shown


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (99, 99), (99.1, 100), (100, 100)]
)
def test_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], percent) == expected


def test_percentile_of_few_values_is_never_better_than_the_worst_that_counts() -> None:
    assert percentile([1, 2, 3], 99) == 3


def test_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)
