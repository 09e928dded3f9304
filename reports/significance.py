"""Which of several variants is the best by more than chance: values in, places out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from harness.records import Record, cells
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


class Difference(NamedTuple):
    """One mean over seeds less another, with its interval, one of so many that hold together."""

    value: float
    low: float
    high: float

    @property
    def tie(self) -> bool:
        """Whether the interval holds 0."""
        return self.low <= 0 <= self.high


class Seeds:
    """Means of variants over seeds, and the scatter that all of them share.

    Args:
        groups: the trials of each variant.
        values: of each trial that counts, by its hash.

    Source: Miller, Simultaneous Statistical Inference (1981), sec. 2.2, on Bonferroni intervals.
    """

    def __init__(self, groups: Sequence[Sequence[Record]], values: Mapping[str, float]) -> None:
        counted = [record for group in groups for record in group if record.trial in values]
        numbers = np.array([values[record.trial] for record in counted])
        self.cells = cells.comparable(counted, numbers) if counted else None
        found = [] if self.cells is None else [record.trial for record in self.cells.firsts]
        self.places = [
            next((i for i, trial in enumerate(found) if trial in {r.trial for r in group}), None)
            for group in groups
        ]

    def difference(self, i: int, j: int, family: int) -> Difference | None:
        """Return variant i less variant j; None where a side has no value, or nothing scatter."""
        a, b = self.places[i], self.places[j]
        if self.cells is None or a is None or b is None:
            return None
        contrast = self.cells.mean(a) - self.cells.mean(b)
        half = self.cells.fit.half(contrast, 1 - (1 - LEVEL) / family)
        value = float(contrast @ self.cells.fit.coefficients)
        return None if half is None else Difference(value, value - half, value + half)


def over_seeds(seeds: Seeds, *, greater: bool) -> Beats:
    """Compare means over seeds; where no seed was repeated, none is better.

    Args:
        seeds: the means.
        greater: whether more is better.
    """

    def beats(i: int, j: int, family: int) -> bool:
        found = seeds.difference(i, j, family)
        return found is not None and (found.low > 0 if greater else found.high < 0)

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
