"""What a search looks for, and the trials that no other beats in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.records import fronts
from harness.records.record import Record

Gains = NDArray[np.float64]


class Goal(NamedTuple):
    """What a search looked for."""

    objectives: Mapping[str, str]  # metric: "maximize" or "minimize"
    reference: Mapping[
        str, float
    ] = {}  # metric: the worst value of interest; empty: the worst seen
    beyond: frozenset[str] = frozenset()  # trials that are done and beyond a constraint


def front(records: Sequence[Record], goal: Goal) -> list[Record]:
    """Return the trials that no other beats in all objectives, constraints kept."""
    found = eligible(records, goal)
    flags = fronts.front(gains_of(found, goal))
    return [record for record, kept in zip(found, flags, strict=True) if kept]


def eligible(records: Sequence[Record], goal: Goal) -> list[Record]:
    """Return the finished trials with all objectives, and within the constraints."""
    return [
        record
        for record in records
        if record.state == "done"
        and record.trial not in goal.beyond
        and goal.objectives.keys() <= record.metrics.keys()
    ]


def gains_of(records: Sequence[Record], goal: Goal) -> Gains:
    """Return the objectives of trials, [N, M], more is better."""
    rows = [[record.metrics[name] for name in goal.objectives] for record in records]
    return np.array(rows, dtype=np.float64).reshape(-1, len(goal.objectives)) * signs(goal)


def signs(goal: Goal) -> Gains:
    """Return 1 for each objective that is maximised, -1 for the others, [M]."""
    return np.array([1.0 if way == "maximize" else -1.0 for way in goal.objectives.values()])
