"""Searches: the volume that a front dominates, and how it grew with the trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.records import Record, fronts
from harness.records.goals import Goal as Goal
from harness.records.goals import eligible, gains_of, signs
from harness.records.goals import front as front

Gains = NDArray[np.float64]


class Growth(NamedTuple):
    """How the dominated volume grew."""

    trials: list[int]  # number of trials that were over, pruned and failed ones counted
    volumes: list[float]  # then, in the product of the objectives' units
    reference: dict[str, float]


def hypervolume(gains: Gains, reference: Gains) -> float:
    """Return the volume that points dominate, down to a reference point.

    Args:
        gains: [N, M] points, more is better.
        reference: [M] the corner from which volume counts; points not above it add nothing.

    Source: While, Bradstreet and Barone, A Fast Way of Calculating Exact Hypervolumes (2012), sec.
    III: what a point adds is its box less what the others cover of that box.
    """
    above = np.asarray(gains, dtype=np.float64).reshape(-1, len(reference)) - reference
    return _volume(_front(above[(above > 0).all(axis=1)]))


def _volume(front: Gains) -> float:
    if len(front) == 0:
        return 0.0
    total = 0.0
    for index, point in enumerate(front):
        covered = np.minimum(front[index + 1 :], point)
        total += float(point.prod()) - _volume(_front(covered))
    return total


def _front(points: Gains) -> Gains:
    """Return the points that no other is at least as good as, each once."""
    points = np.unique(points, axis=0)
    kept: Gains = points[fronts.front(points)]
    return kept


def growth(records: Sequence[Record], goal: Goal) -> Growth | None:
    """Follow the dominated volume from trial to trial, in the order in which they ended.

    Returns:
        None where no trial has all objectives.
    """
    ordered = sorted(records, key=lambda record: record.timings.get("finished", math.inf))
    kept = {record.trial for record in eligible(records, goal)}
    found = [record for record in ordered if record.trial in kept]
    if not found:
        return None
    gains = gains_of(found, goal)
    corner, volumes, seen = _corner(gains, goal), [], 0
    for record in ordered:
        seen += record.trial in kept
        volumes.append(hypervolume(gains[:seen], corner))
    reference = corner * signs(goal)
    named = dict(zip(goal.objectives, map(float, reference), strict=True))
    return Growth(list(range(1, len(ordered) + 1)), volumes, named)


def _corner(gains: Gains, goal: Goal) -> Gains:
    if not goal.reference:
        return np.asarray(gains.min(axis=0), dtype=np.float64)
    return np.array([goal.reference[name] for name in goal.objectives]) * signs(goal)
