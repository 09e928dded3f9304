"""Intervals for latencies: samples that depend on each other, drift and have heavy tails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

FEWEST_ROUNDS = 6  # below it neither interval can be given at 95 %

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


class Ratio(NamedTuple):
    """How a latency compares with another, with its confidence interval."""

    ratio: float
    low: float
    high: float

    @property
    def tie(self) -> bool:
        """Whether the two cannot be told apart."""
        return self.low <= 1 <= self.high


def median_interval(samples: Sequence[float], level: float = 0.95) -> Interval | None:
    """Give the interval of the median of a series, in the order in which it was taken.

    The ends are order statistics, as in the sign test, set apart by the long-run variance of the
    signs instead of that of independent samples: nothing is assumed about the distribution.

    Returns:
        The interval; None where the series is worth too few independent samples for the level.

    Source: Woodruff, Confidence intervals for medians (1952); long-run variance by the initial
    positive sequence of Geyer, Practical Markov chain Monte Carlo (1992), sec. 3.3.
    """
    values = np.asarray(samples, dtype=np.float64)
    count = len(values)
    if count < FEWEST_ROUNDS:
        return None
    signs = np.sign(values - np.median(values)) / 2
    spread = max(_long_run_variance(signs), 0.25)
    independent = count * 0.25 / spread
    if independent <= 2:
        return None
    half = _student(level, independent - 1) * math.sqrt(count * spread)
    low, high = math.floor(count / 2 - half), math.ceil(count / 2 + half)
    if low < 0 or high > count:
        low, high = low + 1, high - 1
    if low < 0 or high > count:
        return None
    ordered = np.sort(values)
    return Interval(float(ordered[low]), float(ordered[high - 1]))


def ratio_of_medians(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]],
    *,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Ratio:
    """Divide the median of `a` by that of `b`, both taken in the same rounds.

    Rounds are drawn again with replacement, for both alike, so that drift cancels. The tails are
    widened for few rounds.

    Args:
        a: [R, K] samples by round.
        b: [R, K'] samples by round.
        level: confidence of the interval.
        replicates: draws of the bootstrap.
        seed: of the draws.

    Raises:
        ValueError: rounds that are not the same number, or too few.

    Source: Hesterberg, What Teachers Should Know About the Bootstrap (2015), sec. 4.3 ("expanded
    percentile").
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    rounds = len(first)
    if rounds != len(second):
        raise ValueError(f"{rounds} rounds against {len(second)}: measure the two together")
    if rounds < FEWEST_ROUNDS:
        raise ValueError(f"a ratio needs {FEWEST_ROUNDS} rounds or more, got {rounds}")
    drawn = np.random.default_rng(seed).integers(rounds, size=(replicates, rounds))
    ratios = _medians(first[drawn]) / _medians(second[drawn])
    tail = NormalDist().cdf(-math.sqrt(rounds / (rounds - 1)) * _student(level, rounds - 1))
    low, high = np.quantile(ratios, (tail, 1 - tail))
    return Ratio(float(np.median(first) / np.median(second)), float(low), float(high))


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


def _medians(draws: Floats) -> Floats:
    """Return the median of each draw, from [replicates, R, K]."""
    return np.median(draws.reshape(len(draws), -1), axis=1)


def _long_run_variance(series: Floats) -> float:
    """Sum the autocovariances of a series, as far as pairs of neighbouring lags stay positive."""
    count = len(series)
    centred = series - series.mean()
    covariances = np.correlate(centred, centred, mode="full")[count - 1 :] / count
    pairs = covariances[: count // 2 * 2].reshape(-1, 2).sum(axis=1)
    stop = int(np.argmax(pairs <= 0)) if (pairs <= 0).any() else len(pairs)
    removed = (4 * stop - 1) / count  # share that goes with the estimated mean
    variance = float(2 * pairs[:stop].sum() - covariances[0])
    return variance / (1 - removed) if removed < 1 else math.inf
