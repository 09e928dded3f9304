"""Intervals for latencies: samples that depend on each other, drift and have heavy tails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.special import stdtrit

from harness.records.turns import Ratio

FEWEST_ROUNDS = 6  # below it neither interval can be given at 95 %
FEWEST_COSINES = 4  # that a variance is estimated from
EXACT_ROUNDS = 50  # above it the normal distribution serves for that of signed ranks

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def median_interval(samples: Sequence[float], level: float = 0.95) -> Interval | None:
    """Give the interval of the median of a series, in the order in which it was taken.

    The ends are order statistics, as in the sign test, set apart by the long-run variance of the
    signs instead of that of independent samples: nothing is assumed about the distribution. The
    variance comes from few of the slowest cosines, the fewer the more neighbours resemble each
    other, and Student's distribution pays for how few they are. A series worth fewer than ten
    independent samples is covered in 87 to 91 % of cases instead of 95 %.

    Returns:
        The interval; None where the series is worth too few independent samples for the level.

    Source: Woodruff, Confidence intervals for medians (1952); Lazarus, Lewis, Stock and Watson,
    HAR Inference: Recommendations for Practice (2018), sec. 2, equal-weighted cosine estimator.
    That their number follows the resemblance is ours.
    """
    values = np.asarray(samples, dtype=np.float64)
    count = len(values)
    if count < FEWEST_ROUNDS:
        return None
    signs = np.sign(values - np.median(values)) / 2
    cosines = _cosines(signs)
    spread = max(_long_run_variance(signs, cosines), 0.25)
    half = _student(level, cosines) * math.sqrt(count * spread)
    place = math.floor(count / 2 - half)  # of either end, counted from that side
    if place < -1:
        return None
    ordered = np.sort(values)
    place = max(place, 0)
    return Interval(float(ordered[place]), float(ordered[-1 - place]))


def ratio_of_medians(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], *, level: float = 0.95
) -> Ratio:
    """Divide the medians of `a` by those of `b`, round by round, so that drift cancels.

    The ratio is the middle of the geometric means of all pairs of rounds, the interval that of the
    signed-rank test: exact whatever the distribution, since the order within a round is drawn.

    Args:
        a: [R, K] samples by round.
        b: [R, K'] samples by round, of the same rounds.
        level: confidence of the interval.

    Raises:
        ValueError: rounds that are not the same number, or too few for the level.

    Source: Hodges and Lehmann, Estimates of Location Based on Rank Tests (1963).
    """
    rounds = len(a)
    if rounds != len(b):
        raise ValueError(f"{rounds} rounds against {len(b)}: measure the two together")
    if rounds < FEWEST_ROUNDS:
        raise ValueError(f"a ratio needs {FEWEST_ROUNDS} rounds or more, got {rounds}")
    ratios = np.median(np.asarray(a, float), axis=1) / np.median(np.asarray(b, float), axis=1)
    one, other = np.triu_indices(rounds)
    means = np.sort(np.sqrt(ratios[one] * ratios[other]))
    cut = _signed_ranks_cut(rounds, (1 - level) / 2)
    if cut < 1:
        raise ValueError(f"{rounds} rounds are too few for an interval at {level:.4g}")
    return Ratio(float(np.median(means)), float(means[cut - 1]), float(means[-cut]))


def is_steady(trace: Sequence[float], *, window: int = 24, tolerance: float = 0.02) -> bool:
    """Say whether the end of a trace neither rises nor falls.

    It does not when the medians of the window's halves are within `tolerance` of each other, or
    when a rank test sees no trend in it.

    Source: Mann, Nonparametric Tests Against Trend (1945).
    """
    if len(trace) < window:
        return False
    end = np.asarray(trace[-window:], dtype=np.float64)
    before, after = np.median(end[: window // 2]), np.median(end[window // 2 :])
    if abs(after - before) <= tolerance * before:
        return True
    rises = np.sign(end[None, :] - end[:, None])[np.triu_indices(window, 1)].sum()
    deviation = math.sqrt(window * (window - 1) * (2 * window + 5) / 18)
    return bool(abs(rises) < NormalDist().inv_cdf(0.975) * deviation)


def _student(level: float, freedom: float) -> float:
    """Return the two-sided quantile of Student's distribution."""
    return float(stdtrit(freedom, (1 + level) / 2))


def _signed_ranks_cut(count: int, tail: float) -> int:
    """Return which pair, counted from either end, bounds the interval of the signed-rank test.

    Args:
        count: of values.
        tail: probability beyond each end.

    Returns:
        1 for the outermost pair; 0 where even that one bounds less than is asked.
    """
    mean, deviation = _signed_ranks_moments(count)
    if count > EXACT_ROUNDS:
        return math.floor(mean + NormalDist().inv_cdf(tail) * deviation)
    ways = np.ones(1)  # [sum of ranks]: how many sets of ranks have it
    for rank in range(1, count + 1):
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    below = np.cumsum(ways) / 2.0**count
    return int(np.searchsorted(below, tail, side="right"))


def _signed_ranks_moments(count: int) -> tuple[float, float]:
    return count * (count + 1) / 4, math.sqrt(count * (count + 1) * (2 * count + 1) / 24)


def _cosines(signs: Floats) -> int:
    """Return how many of the slowest cosines of a series show its variance at the lowest frequency.

    An autoregressive series is flat up to a frequency that its resemblance to itself one step later
    tells; its signs resemble each other less, by the arcsine law.
    """
    count, total = len(signs), float((signs**2).sum())
    resemblance = float((signs[1:] * signs[:-1]).sum()) / total if total else 0.0
    unbiased = min(max((resemblance + 1 / count) / (1 - 3 / count), 0.0), 1.0)
    flat = count * (1 - math.sin(math.pi / 2 * unbiased)) / math.pi
    return int(max(min(0.3 * flat, 0.6 * count ** (2 / 3)), FEWEST_COSINES))


def _long_run_variance(series: Floats, cosines: int) -> float:
    """Return the variance of a series' mean, times its length, from its slowest cosines."""
    coefficients = dct(series, type=2, norm="ortho")[1 : cosines + 1]
    return float((coefficients**2).sum()) / cosines
