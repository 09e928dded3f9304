"""How sure a difference between two sides is, when it varies over images and over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
FEWEST_IMAGES = 6  # of fewer, even if all agree, none can tell at 95 % that they are not chance

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Difference(NamedTuple):
    """How a figure of B differs from that of A."""

    name: str
    a: float
    b: float
    difference: float  # b - a
    low: float | None  # ends of the interval; None where there are too few images
    high: float | None
    p: float | None  # of a difference so large by chance
    images: int  # that have something to say about it
    told_apart: bool  # allowing for all the differences that were looked at together
    family: int = 1  # how many those are (Holm)

    @property
    def corrected_away(self) -> bool:
        """Whether the interval, which is that of one difference, leaves out 0 all the same."""
        if self.told_apart or self.low is None or self.high is None:
            return False
        return self.low > 0 or self.high < 0


class Measured(NamedTuple):
    """Figures of both sides, and how their difference varies with the images; F is their number."""

    names: Sequence[str]
    a: Floats  # [seeds of A, F]
    b: Floats  # [seeds of B, F]
    variance: Floats  # [F] over images, of the difference of the sides' means
    images: Integers  # [F]
    paired: bool = False
    """Whether both sides are the same trainings, row by row, as with other thresholds of NMS."""


def drawn_variance(drawn: Floats) -> Floats:
    """Return the variance of differences over draws of the images; [draws, F] to [F]."""
    there = np.isfinite(drawn)
    count = np.maximum(there.sum(axis=0), 2)
    centre = np.where(there, drawn, 0.0).sum(axis=0) / count
    squares = np.where(there, drawn - centre, 0.0) ** 2
    return np.asarray(squares.sum(axis=0) / (count - 1))


def compare(measured: Measured) -> list[Difference]:
    """Give the difference of each figure with its interval, leaving out what one side lacks.

    Images and seeds are crossed: each training is judged by all images. The variance over images
    and that over the trainings of either side add up; what belongs to both is counted twice, which
    widens the interval. A side with a single training is taken to vary as the other does; where
    both have one, only images are counted. Where both sides are the same trainings, it is their
    differences that vary: what one has luck with, the other has, too. All figures are one family
    for `told_apart`.

    Source: Satterthwaite, An approximate distribution of estimates of variance components (1946);
    Owen, The pigeonhole bootstrap (2007), on crossed samples; Holm, A simple sequentially rejective
    multiple test procedure (1979).
    """
    found = [
        _difference(measured, index)
        for index in range(len(measured.names))
        if np.isfinite([*measured.a[:, index], *measured.b[:, index]]).all()
    ]
    return _tell_apart(found)


def _difference(measured: Measured, index: int) -> Difference:
    a, b = measured.a[:, index], measured.b[:, index]
    mean_a, mean_b = float(a.mean()), float(b.mean())
    images = int(measured.images[index])
    difference = mean_b - mean_a
    low = high = p = None
    if images >= FEWEST_IMAGES:
        over_images = float(measured.variance[index]) * images / (images - 1)
        error, freedom = _combine(
            [(over_images, images - 1), *_seed_terms(a, b, paired=measured.paired)]
        )
        half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
        low, high = difference - half, difference + half
        p = max(_probability(difference, error, freedom), 2.0 ** (1 - images))
    return Difference(
        measured.names[index], mean_a, mean_b, difference, low, high, p, images, told_apart=False
    )


def _seed_terms(a: Floats, b: Floats, *, paired: bool) -> list[tuple[float, int]]:
    """Return the variance over seeds of the sides' means, each with its degrees of freedom."""
    if paired:
        freedom = len(a) - 1
        return [(float((b - a).var(ddof=1)) / len(a), freedom)] if freedom else []
    several = [float(side.var(ddof=1)) if len(side) > 1 else None for side in (a, b)]
    first, second = several
    if first is not None and second is not None:
        return [(first / len(a), len(a) - 1), (second / len(b), len(b) - 1)]
    for variance, side in zip(several, (a, b), strict=True):
        if variance is not None:
            return [(variance * (1 + 1 / len(side)), len(side) - 1)]
    return []


def _combine(terms: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Return the standard error that variances make up, and its degrees of freedom."""
    total = sum(variance for variance, _ in terms)
    if total == 0:
        return 0.0, float(terms[0][1])
    spread = sum((variance / total) ** 2 / freedom for variance, freedom in terms)
    return math.sqrt(total), 1 / spread


def _probability(difference: float, error: float, freedom: float) -> float:
    if difference == 0:
        return 1.0
    return 2 * float(stdtr(freedom, -abs(difference) / error)) if error > 0 else 0.0


def _tell_apart(found: Sequence[Difference]) -> list[Difference]:
    """Mark the differences that stand when all are looked at."""
    tested = [(item.p, place) for place, item in enumerate(found) if item.p is not None]
    told: set[int] = set()
    for rank, (p, place) in enumerate(sorted(tested)):
        if p > (1 - LEVEL) / (len(tested) - rank):
            break
        told.add(place)
    family = max(len(tested), 1)
    return [
        item._replace(told_apart=place in told, family=family) for place, item in enumerate(found)
    ]
