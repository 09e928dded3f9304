"""Racing: more seeds, but only for variants that may still be the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from harness.config.search import Racing
from harness.records import Record, digest, latencies
from harness.records.least_squares import Fit, fit


class Run(NamedTuple):
    """One trial to be run."""

    overrides: dict[str, Any]
    seed: int


class Standing(NamedTuple):
    """How a variant stands against the best."""

    overrides: dict[str, Any]
    seeds: tuple[int, ...]  # tried so far, in vain included
    mean: float | None  # of the metric, freed of what the seeds have in common; None if none has it
    behind: float  # by how much the best is better, >= 0, in the metric's unit
    half: float  # half the interval of that; infinite while there is no repetition
    open: bool  # whether it may still be the best


def next_runs(records: Sequence[Record], racing: Racing, seeds: Sequence[int]) -> list[Run]:
    """Return the next seed of every variant that may still be the best; nothing once one is left.

    Call it whenever all that was returned before is over.

    Args:
        records: of the study so far, whatever their state.
        racing: of the study.
        seeds: the study's own, with which every variant is run first.
    """
    open_ = [standing for standing in standings(records, racing) if standing.open]
    if len(open_) < 2:
        return []
    in_turn = order(racing, seeds)
    waiting = [
        Run(standing.overrides, next(seed for seed in in_turn if seed not in standing.seeds))
        for standing in open_
        if any(seed not in standing.seeds for seed in in_turn)
    ]
    room = len(waiting) if racing.runs is None else max(racing.runs - len(records), 0)
    return waiting[:room]


def standings(records: Sequence[Record], racing: Racing) -> list[Standing]:
    """Compare every variant with the best one, the best first.

    Seeds are blocks: what a seed does to all variants does not count. The scatter is pooled over
    the variants. The confidence is shared among all that may go wrong in a race (Bonferroni): any
    variant may come out best, so that each pair is compared, and after every seed again.
    """
    tried: dict[str, list[Record]] = {}
    for record in records:
        tried.setdefault(digest(record.overrides), []).append(record)
    sign = 1.0 if racing.direction == "maximize" else -1.0
    means = _means({key: _values(group, racing.metric, sign) for key, group in tried.items()})
    best = max(means.of, key=lambda key: means.of[key], default=None)
    pairs, looks = math.comb(max(len(means.of), 2), 2), racing.seeds - 1
    level = 1 - (1 - racing.confidence) / (pairs * looks)
    found = []
    for key, group in tried.items():
        mean = means.of.get(key)
        behind, half = 0.0, 0.0
        if mean is not None and best is not None and key != best:
            behind = means.of[best] - mean
            half = means.half(best, key, level)
        seeds = tuple(sorted({record.seed for record in group}))
        own = None if mean is None else sign * mean
        is_open = mean is not None and behind <= half
        found.append(Standing(group[0].overrides, seeds, own, behind, half, is_open))
    return sorted(found, key=lambda item: (item.mean is None, item.behind))


class _Means(NamedTuple):
    """Least squares of variants and seeds."""

    of: dict[str, float]  # by variant
    fit: Fit

    def half(self, one: str, other: str, level: float) -> float:
        """Return half the interval of a difference; infinite where nothing was repeated."""
        contrast = np.zeros(len(self.fit.coefficients))
        keys = list(self.of)
        contrast[keys.index(one)], contrast[keys.index(other)] = 1, -1
        half = self.fit.half(contrast, level)
        return float("inf") if half is None else half


def _means(values: dict[str, dict[int, float]]) -> _Means:
    keys = [key for key, of_seed in values.items() if of_seed]
    seeds = sorted({seed for of_seed in values.values() for seed in of_seed})
    rows = [(key, seed) for key in keys for seed in values[key]]
    design = np.zeros((len(rows), len(keys) + len(seeds)))
    for row, (key, seed) in zip(design, rows, strict=True):
        row[keys.index(key)] = row[len(keys) + seeds.index(seed)] = 1
    design[:, len(keys) :] -= 1 / max(len(seeds), 1)  # blocks add nothing to the means
    found = fit(design, np.array([values[key][seed] for key, seed in rows]))
    return _Means(dict(zip(keys, map(float, found.coefficients), strict=False)), found)


def _values(group: Sequence[Record], metric: str, sign: float) -> dict[int, float]:
    return {
        record.seed: sign * record.metrics[metric]
        for record in group
        if record.state == "done" and metric in latencies.firm(record)
    }


def order(racing: Racing, seeds: Sequence[int]) -> list[int]:
    """Return the seeds in which variants are run: the study's own, then those that follow."""
    after = range(max(seeds) + 1, max(seeds) + 1 + racing.seeds)
    return [*seeds, *after][: max(racing.seeds, len(seeds))]
