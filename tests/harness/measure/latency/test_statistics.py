import math

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import kendalltau, t, wilcoxon

from harness.measure.latency.statistics import is_steady, median_interval, ratio_of_medians
from harness.records.turns import Ratio


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


def in_blocks(*blocks):
    """Return values of 0, 1, 2, ... that lie below and above their median in turns of a length."""
    above = np.repeat(np.arange(len(blocks)) % 2 == 1, blocks)
    assert above.sum() * 2 == len(above)
    values = np.empty(len(above))
    values[~above], values[above] = np.split(np.arange(len(above)), 2)
    return values


@pytest.mark.parametrize(
    ("blocks", "cosines", "low"),
    [
        # The ends are floor(n / 2 - t sqrt(n) / 2) places from either side, where t is Student's
        # quantile with as many degrees of freedom as cosines: at 97.5 % 2.776 for 4, 2.571 for 5,
        # 2.262 for 9, 1.969 for 278. The fewest cosines are 4.
        ([1] * 6, 4, 0),
        ([1] * 8, 4, 0),
        ([1] * 12, 4, 1),
        # Neighbours that resemble each other no more than by chance: 0.3 n / pi cosines.
        ([1] * 100, 9, 38),
        ([1, *[2] * 26, 1], 5, 17),
        # The products of neighbours sum to +1 of 54 instead of -1: a resemblance of 2 / 51,
        # when what a series of 54 lacks by chance is added. 0.3 n (1 - sin(pi / 2 r)) / pi = 4.8.
        ([1, 3, *[2] * 25], 4, 16),
        # They sum to 33 of 104: a resemblance of 34 / 101, 4.9 cosines.
        ([2] * 4 + [3] * 32, 4, 37),
        # They sum to 1601 of 2000: a resemblance of 1602 / 1997, 9.1 cosines.
        ([10] * 200, 9, 949),
        # They sum to 1801: a resemblance of 1802 / 1997, which leaves 2.2, so the fewest.
        ([20] * 100, 4, 937),
        # 0.6 n ** (2 / 3) cosines at most, here 278.
        ([1] * 10_000, 278, 4901),
    ],
)
def test_median_interval_by_hand(blocks, cosines, low):
    values = in_blocks(*blocks)
    count = len(values)
    assert low == max(math.floor(count / 2 - t.ppf(0.975, cosines) * math.sqrt(count) / 2), 0)
    assert median_interval(values) == (low, count - 1 - low)


def test_median_interval_by_hand_where_slow_waves_widen_it():
    """Three of four samples lie above the median in the first half, and below it in the second.

    The signs' mean is 1 / 4 and then -1 / 4: a square wave. Neighbours hardly resemble each other,
    so that 0.6 * 400 ** (2 / 3) = 32 cosines are averaged; the odd ones have about
    n / (2 pi^2 j^2) of the wave's variance.
    """
    values = in_blocks(0, *[3, 1] * 50, *[1, 3] * 50)
    signs = np.where(values > 199.5, 0.5, -0.5)
    steps, orders = np.arange(400) + 0.5, np.arange(1, 33)[:, None]
    waves = math.sqrt(2 / 400) * np.cos(math.pi * orders * steps / 400)
    variance = ((waves @ signs) ** 2).mean()
    assert variance == pytest.approx(
        sum(400 / (2 * math.pi**2 * j**2) for j in range(1, 33, 2)) / 32, rel=0.03
    )
    assert t.ppf(0.975, 32) * math.sqrt(400 * variance) == pytest.approx(36.09, abs=0.01)
    assert median_interval(values) == (163, 236)


def test_median_interval_at_another_level():
    assert t.ppf(0.9, 9) * 5 == pytest.approx(6.9, abs=0.05)
    assert median_interval(in_blocks(*[1] * 100), level=0.8) == (43, 56)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_median_interval_of_what_never_varies_is_the_value(value):
    assert median_interval([value] * 60) == (value, value)


def test_median_interval_needs_six_samples():
    assert median_interval([1.0, 3.0, 2.0, 5.0, 1.5]) is None
    assert median_interval([1.0, 3.0, 2.0, 5.0, 1.5, 4.0]) == (1.0, 5.0)


def test_median_interval_may_lie_within_one_place_beyond_the_ends():
    # One half, then the other: nearly all of their variance, 8 / 4, is in the first four cosines,
    # so the ends are 2.776 sqrt(8 * 0.46) = 5.3 places from the middle, 1.3 beyond the last sample.
    # Those of six in turns (above) are 0.4 beyond it, and the last sample serves.
    assert median_interval(in_blocks(4, 4)) is None


def rounds_of(logs):
    """Return blocks whose ratios have given logarithms; the second medians are those of drift."""
    drift = np.linspace(1, 2, len(logs))
    first = (np.exp(logs) * drift)[:, None] * np.array([0.5, 1.0, 7.0])
    return first, drift[:, None] * np.ones((len(logs), 2))


def signed_ranks_p(logs, ratio):
    return wilcoxon(logs - math.log(ratio), method="exact").pvalue


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("count", [6, 7, 10, 25, 49, 50])
def test_ratio_has_the_interval_of_the_signed_rank_test(count, level):
    logs = np.random.default_rng(count).normal(0.1, 0.2, count)
    ratio, low, high = ratio_of_medians(*rounds_of(logs), level=level)
    means = (logs[:, None] + logs)[np.triu_indices(count)] / 2
    assert ratio == pytest.approx(np.median(np.exp(means)))
    for end, inside in ((low, 1e-9), (high, -1e-9)):
        assert signed_ranks_p(logs, end + inside) > 1 - level >= signed_ranks_p(logs, end - inside)


@pytest.mark.parametrize("count", [51, 60, 100, 200])
def test_ratio_of_many_rounds_is_as_sure_as_it_says_and_not_much_surer(count):
    logs = np.random.default_rng(count).normal(0.1, 0.2, count)
    _, low, high = ratio_of_medians(*rounds_of(logs))
    means = np.sort((logs[:, None] + logs)[np.triu_indices(count)] / 2)
    places = np.searchsorted(means, np.log([low + 1e-9, high - 1e-9]))
    for end, outside in ((low, -1e-9), (high, 1e-9)):
        assert signed_ranks_p(logs, end + outside) <= 0.05
    for place in (places[0] + 3, places[1] - 3):  # the normal distribution is off by so many pairs
        assert signed_ranks_p(logs, math.exp(means[place])) > 0.05


def test_ratio_refuses_a_level_that_its_rounds_cannot_have():
    six = rounds_of(np.linspace(0.1, 0.2, 6))
    assert ratio_of_medians(*six, level=1 - 2 / 2**6).low == pytest.approx(math.exp(0.1))
    with pytest.raises(ValueError, match=r"6 rounds are too few for an interval at 0\.99"):
        ratio_of_medians(*six, level=0.99)
    with pytest.raises(ValueError, match="6 rounds or more, got 5"):
        ratio_of_medians(*rounds_of(np.linspace(0.1, 0.2, 5)))


def test_tie_at_the_ends():
    assert Ratio(0.9, 0.8, 1.0).tie
    assert Ratio(1.1, 1.0, 1.2).tie


def rising(pairs, count=24):
    """Return `count` values of which as many pairs rise as fall, and `pairs` more."""
    swaps, values = (count * (count - 1) // 2 - pairs) // 2, list(range(10, 10 + count))
    for place in range(count):  # each value that goes to the front lets as many pairs fall
        moved = min(place, swaps)
        values.insert(place - moved, values.pop(place))
        swaps -= moved
    return values


@pytest.mark.parametrize("count", [10, 24, 40])
def test_steady_is_what_the_rank_test_sees_no_trend_in(count):
    verdicts = []
    for pairs in range(count * (count - 1) // 2 % 2, count * (count - 1) // 2, 2):
        trace = rising(pairs, count)
        p = kendalltau(range(count), trace, method="asymptotic").pvalue
        for values in (trace, trace[::-1]):
            verdicts.append(is_steady(values, window=count, tolerance=0.0))
            assert verdicts[-1] == (p > 0.05 or np.median(values[: count // 2])
                                    == np.median(values[count // 2 :])), pairs  # fmt: skip
    assert {*verdicts} == {True, False}


def test_steady_with_a_trend_is_a_matter_of_the_medians_of_its_halves():
    half = np.arange(11, 22)  # their median is 16
    for rise, steady in ((4, True), (5, False)):
        trace = [*half, *(half + rise)]
        assert is_steady(trace, window=22, tolerance=0.25) is steady
    for fall, steady in ((5, True), (6, False)):  # a quarter of 21 is 5.25, of 22 it is 5.5
        trace = [*(half + fall)[::-1], *half[::-1]]
        assert is_steady(trace, window=22, tolerance=0.25) is steady


def test_steady_by_default_is_within_two_percent_over_24_calls():
    half = np.linspace(0.999, 1.001, 12)
    assert is_steady([*half, *(half + 0.0199)])
    assert not is_steady([*half, *(half + 0.0201)])
    assert not is_steady([*(half + 0.021)[::-1], *half[::-1]])
    assert not is_steady([*half, *half][1:])
    assert is_steady([*half, *half])
    assert is_steady([5.0, *half, *half])
    assert not is_steady([*half, *half, *(half + 1), *(half + 2)])
