"""Contests: which variant is best in a metric, and which others are no worse for sure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from harness.analysis.answer.power import Scale, of_any_pair
from harness.records import Record, turns, variants
from harness.records.cells import Cells
from harness.records.effects import LEVEL
from harness.records.turns import Ratio

LONGEST = 80  # letters of a variant's name
BETWEEN = " / "
"""What stands between the settings of several knobs that name a variant."""
NOTHING = 1e-9  # what rounding leaves of a difference of equal numbers


class Against(NamedTuple):
    """How far a variant is behind the best one."""

    label: str
    difference: float  # at least 0; in the metric's unit, or of ratios, in %
    low: float
    high: float
    share: float | None = None  # in % of what this variant has
    in_percent: bool = False  # whether the difference itself is, of the best one

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out nothing."""
        return self.low > NOTHING


class Contest(NamedTuple):
    """The best variant, and all others, the nearest first."""

    best: str
    value: float
    others: list[Against]
    scale: Scale | None = None  # of trials that were repeated

    @property
    def ties(self) -> list[Against]:
        """The others that show no significant difference from the best."""
        return [other for other in self.others if not other.significant]


def over_seeds(found: Cells, level: float, *, least: bool) -> Contest:
    """Compare the best variant with all others, by the scatter of repeated seeds.

    The intervals hold together for all pairs of variants, so that the best may be chosen by its
    figure.

    Args:
        found: values in the metric's unit, with a scatter.
        level: of all intervals together.
        least: whether the least value is the best.
    """
    means = [found.mean(cell) for cell in range(len(found.firsts))]
    values = np.array(found.values)
    order = [int(cell) for cell in np.argsort(values if least else -values, kind="stable")]
    critical = of_any_pair(len(means), level)(found.fit.freedom)
    best, others = order[0], []
    labels = names(found.firsts)
    for cell in order[1:]:
        error = found.fit.error(means[best] - means[cell])
        assert error is not None  # it has a scatter
        behind, half = abs(float(values[best] - values[cell])), critical * error
        share = 100 * behind / values[cell] if values[cell] else None
        others.append(Against(labels[cell], behind, behind - half, behind + half, share))
    return Contest(labels[best], float(values[best]), others, _scale(found, level))


def _scale(found: Cells, level: float) -> Scale:
    """Say how sure a difference of two variants is that have as many seeds as most."""
    seeds = round(float(np.median(found.counts)))
    assert found.fit.variance is not None  # it has a scatter
    error = math.sqrt(2 * found.fit.variance / seeds)
    more = len(found.counts) - (1 if found.seeds else 0)
    return Scale(error, seeds, found.fit.freedom, more, of_any_pair(len(found.counts), level))


def in_turns(firsts: Sequence[Record]) -> Contest | None:
    """Compare the latencies of single trainings, by the rounds in which they were timed in turns.

    The intervals of the ratios are made wider, so that they hold together for all pairs.

    Args:
        firsts: one trial of each variant.

    Returns:
        In %, of the faster one; None where two have no measurement in common.
    """
    pairs: dict[tuple[int, int], Ratio] = {}
    for a, b in itertools.permutations(range(len(firsts)), 2):
        found = None if turns.unlike(firsts[a], firsts[b]) else turns.ratio(firsts[a], firsts[b])
        if found is None:
            return None
        pairs[a, b] = found
    to_first = [1.0, *(pairs[0, place].ratio for place in range(1, len(firsts)))]
    fastest = int(np.argmin(to_first))
    labels, others = names(firsts), []
    for place in range(len(firsts)):
        if place != fastest:
            wider = _wider(pairs[fastest, place], len(firsts))
            ends = [100 * (value - 1) for value in wider]
            low, high = ends[1:]
            others.append(Against(labels[place], ends[0], low, high, in_percent=True))
    return Contest(
        labels[fastest],
        firsts[fastest].metrics["latency_ms"],
        sorted(others, key=lambda other: other.difference),
    )


def _wider(found: Ratio, count: int) -> Ratio:
    """Widen the interval of one ratio so that those of all pairs hold together (Bonferroni)."""
    family = count * (count - 1) // 2
    factor = float(ndtri(1 - (1 - LEVEL) / (2 * family)) / ndtri((1 + LEVEL) / 2))
    centre, low, high = (math.log(value) for value in found)
    ends = centre - factor * (centre - low), centre + factor * (high - centre)
    return Ratio(found.ratio, math.exp(ends[0]), math.exp(ends[1]))


def names(firsts: Sequence[Record]) -> list[str]:
    """Name variants by the one knob that tells them apart, or by their settings of several.

    Where there are several, only the settings stand, in the order of `named_by`.

    Args:
        firsts: one trial of each.
    """
    paths = telling(firsts) or variants.swept(firsts)
    if len(paths) < 2:
        return settings(firsts, paths)
    rows = ([variants.worded(variants.value(one, path)) for path in paths] for one in firsts)
    return [clean(BETWEEN.join(row)) for row in rows]


def named_by(firsts: Sequence[Record]) -> str:
    """Name the knobs whose settings are the names of variants; nothing where one knob does it."""
    paths, short = variants.swept(firsts), variants.knobs(firsts)
    if telling(firsts) or len(paths) < 2:
        return ""
    return BETWEEN.join(clean(short[path]) for path in paths)


def telling(firsts: Sequence[Record]) -> list[str]:
    """Return the first knob that has another setting in each variant; none if there is none."""
    every = variants.swept(firsts)
    apart = [path for path in every if len(variants.settings(firsts, path)) == len(firsts)]
    return apart[:1]


def settings(firsts: Sequence[Record], paths: Sequence[str]) -> list[str]:
    """Name trials by their settings of some knobs."""
    short = variants.knobs(firsts)
    return [clean(_written(one, paths, short) or variants.title(one)) for one in firsts]


def _written(one: Record, paths: Sequence[str], short: Mapping[str, str]) -> str:
    """Write a trial's settings of some knobs.

    Args:
        one: the trial.
        paths: dotted.
        short: path to the knob's name.
    """
    settings = ((short[path], variants.worded(variants.value(one, path))) for path in paths)
    return ", ".join(f"{name} {setting}" for name, setting in settings)


def clean(text: str) -> str:
    """Put a name on one line of letters that can be seen, and cut what is too long."""
    seen = "".join(letter if letter.isprintable() else " " for letter in text)
    text = " ".join(seen.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"
