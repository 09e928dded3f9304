import numpy as np
import pytest

from harness.statistics import Ratio, is_steady, median_interval, ratio_of_medians


def autoregressive(rng, phi, count):
    noise = rng.standard_normal(count + 100)
    series = np.zeros(count + 100)
    for index in range(1, count + 100):
        series[index] = phi * series[index - 1] + noise[index]
    return series[100:]


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_median_interval_covers_the_median_as_often_as_it_says(phi):
    rng = np.random.default_rng(0)
    trials, hits = 400, 0
    for _ in range(trials):
        interval = median_interval(np.exp(autoregressive(rng, phi, 300)))
        hits += interval is not None and interval.low <= 1 <= interval.high
    assert 0.91 <= hits / trials <= 0.985


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


def test_ratio_calls_few_comparisons_of_a_thing_with_itself_different():
    rng = np.random.default_rng(0)
    ties = 0
    for _ in range(100):
        noise = np.exp(0.05 * autoregressive(rng, 0.9, 240)).reshape(12, 2, 10)
        ties += ratio_of_medians(noise[:, 0], noise[:, 1], replicates=500).tie
    assert ties >= 90


def test_ratio_is_the_same_each_time():
    rounds = np.random.default_rng(0).uniform(1, 2, (2, 8, 4))
    assert ratio_of_medians(*rounds) == ratio_of_medians(*rounds)


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
