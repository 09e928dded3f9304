import numpy as np
import pytest
from scipy.signal import lfilter

from harness.measure.latency.statistics import Ratio, is_steady, median_interval, ratio_of_medians


def autoregressive(rng, phi, count, trials=1):
    """Return series [trials, count] whose neighbours correlate with `phi`; one without trials."""
    noise = rng.standard_normal((trials, count + 100))
    series = lfilter([1], [1, -phi], noise, axis=1)[:, 100:]
    return series[0] if trials == 1 else series


@pytest.mark.parametrize("count", [100, 300, 1000])
@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8, 0.9])
def test_median_interval_covers_the_median_as_often_as_it_says(phi, count):
    series = autoregressive(np.random.default_rng(0), phi, count, trials=400)
    intervals = [median_interval(np.exp(values)) for values in series]
    given = [interval for interval in intervals if interval is not None]
    hits = sum(interval.low <= 1 <= interval.high for interval in given)
    assert len(given) > 0.8 * len(intervals)
    worth = count * (1 - phi) / (1 + phi)  # independent samples
    assert (0.925 if worth > 10 else 0.85) <= hits / len(given) <= 0.995


def test_median_interval_is_wider_for_dependent_samples_of_the_same_distribution():
    series = autoregressive(np.random.default_rng(1), 0.9, 2000)
    shuffled = np.random.default_rng(2).permutation(series)
    dependent, independent = median_interval(series), median_interval(shuffled)
    assert dependent.high - dependent.low > 2 * (independent.high - independent.low)


def test_median_interval_lies_about_the_median_whatever_the_outliers():
    samples = [*np.random.default_rng(0).uniform(1, 2, 99), 1e9]
    low, high = median_interval(samples)
    assert 1 < low <= np.median(samples) <= high < 2


@pytest.mark.parametrize("samples", [[1.0, 2.0, 3.0], list(range(20))])
def test_median_interval_is_absent_where_nothing_can_be_said(samples):
    assert median_interval(samples) is None


def test_ratio_finds_a_difference_that_drift_hides():
    rng = np.random.default_rng(0)
    drift = np.linspace(1, 3, 20)[:, None]
    second = drift * np.exp(0.02 * rng.standard_normal((20, 8)))
    first = 1.1 * drift * np.exp(0.02 * rng.standard_normal((20, 8)))
    ratio = ratio_of_medians(first, second)
    assert ratio.low < 1.1 < ratio.high
    assert ratio.low > 1.05
    assert not ratio.tie


def test_ratio_bears_rounds_that_are_spoilt():
    rng = np.random.default_rng(0)
    first, second = 1.1 * rng.uniform(1.0, 1.02, (20, 4)), rng.uniform(1.0, 1.02, (20, 4))
    first[:2] *= 50
    ratio = ratio_of_medians(first, second)
    assert 1.08 < ratio.low < 1.1 < ratio.high < 1.13


def test_ratio_of_many_rounds_and_of_blocks_of_another_length():
    rng = np.random.default_rng(0)
    few, many = rng.uniform(1.9, 2.1, (50, 1)), rng.uniform(1.9, 2.1, (60, 1))
    exact = ratio_of_medians(few, rng.uniform(0.95, 1.05, (50, 4)))
    normal = ratio_of_medians(many, rng.uniform(0.95, 1.05, (60, 4)))
    for ratio in (exact, normal):
        assert 1.95 < ratio.low < ratio.ratio < ratio.high < 2.05


def test_ratio_refuses_what_was_not_measured_together():
    with pytest.raises(ValueError, match="7 rounds against 8"):
        ratio_of_medians(np.ones((7, 2)), np.ones((8, 2)))
    with pytest.raises(ValueError, match="6 rounds or more, got 3"):
        ratio_of_medians(np.ones((3, 2)), np.ones((3, 2)))


def test_tie():
    assert Ratio(1.02, 0.99, 1.05).tie
    assert not Ratio(1.04, 1.01, 1.07).tie


def test_steady():
    rng = np.random.default_rng(0)
    noise = rng.uniform(1.0, 1.2, 100)
    falling = np.linspace(2, 1, 30) * rng.uniform(1.0, 1.02, 30)
    assert is_steady(noise)
    assert not is_steady(noise[:10])
    assert not is_steady(falling)
    assert not is_steady(np.repeat([2.0, 1.0], 12))
    assert is_steady([*falling, *rng.uniform(1.0, 1.02, 24)])
