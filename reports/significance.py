"""Which of several variants is the best by more than chance: values in, places out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from harness.records import least_squares
from harness.records.turns import Ratio

LEVEL = 0.95
Beats = Callable[[int, int, int], bool]
"""Whether variant i is better than variant j, one of so many comparisons."""


class Places(NamedTuple):
    """Which variant is better than all others, and which than all but that one."""

    best: int | None = None
    second: int | None = None


def places(count: int, beats: Beats) -> Places:
    """Find the best variant and the second, where each is better than all that come after it.

    Args:
        count: of variants.
        beats: as `Beats`.
    """
    best = _winner(range(count), beats)
    if best is None:
        return Places()
    return Places(best, _winner([each for each in range(count) if each != best], beats))


def _winner(among: Sequence[int], beats: Beats) -> int | None:
    family = len(among) - 1
    if family < 1:
        return None
    won = (i for i in among if all(beats(i, j, family) for j in among if j != i))
    return next(won, None)


def exactly(values: Sequence[float | None], *, greater: bool) -> Beats:
    """Compare numbers that have no scatter, such as parameters."""

    def beats(i: int, j: int, family: int) -> bool:
        a, b = values[i], values[j]
        return a is not None and b is not None and (a > b if greater else a < b)

    return beats


def over_seeds(values: Sequence[Mapping[int, float]], *, greater: bool) -> Beats | None:
    """Compare means over seeds, by the scatter that all variants share.

    Where all variants have the same seeds, a seed is a block, and what it does to all does not
    count as scatter.

    Args:
        values: of each variant, by seed.
        greater: whether more is better.

    Returns:
        None where no seed was repeated, so that the scatter is unknown.

    Source: Miller, Simultaneous Statistical Inference (1981), sec. 2.2, on Bonferroni intervals.
    """
    pairs = [(variant, seed) for variant, found in enumerate(values) for seed in found]
    seeds = sorted({seed for _, seed in pairs})
    blocks = seeds if all(found.keys() == set(seeds) for found in values) else []
    design = np.zeros((len(pairs), len(values) + len(blocks)))
    for row, (variant, seed) in zip(design, pairs, strict=True):
        row[variant] = 1
        if blocks:
            row[len(values) + blocks.index(seed)] = 1
    numbers = np.array([values[variant][seed] for variant, seed in pairs])
    fit = least_squares.fit(design, numbers)
    if fit.variance is None:
        return None

    def beats(i: int, j: int, family: int) -> bool:
        if not values[i] or not values[j]:
            return False
        contrast = np.zeros(design.shape[1])
        contrast[i], contrast[j] = (1, -1) if greater else (-1, 1)
        half = fit.half(contrast, 1 - (1 - LEVEL) / family)
        return half is not None and bool(contrast @ fit.coefficients > half)

    return beats


def by_ratio(ratio: Callable[[int, int], Ratio | None]) -> Beats:
    """Compare latencies by their ratios, whose 95 % intervals are widened for the family.

    Args:
        ratio: of the latency of the second variant to that of the first.
    """

    def beats(i: int, j: int, family: int) -> bool:
        found = ratio(i, j)
        if found is None:
            return False
        tail = (1 - LEVEL) / 2
        wider = float(ndtri(1 - tail / family) / ndtri(1 - tail))
        centre = math.log(found.ratio)
        return centre - wider * (centre - math.log(found.low)) > 0

    return beats
