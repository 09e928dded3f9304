"""Fronts: which of several results no other dominates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def dominates(better: Sequence[float], worse: Sequence[float]) -> bool:
    """Say whether gains are at least as good in all objectives and better in one."""
    pairs = list(zip(better, worse, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def front(gains: Sequence[Sequence[float]]) -> list[bool]:
    """Mark the points that no other dominates; of equal points, all are on the front or none.

    Args:
        gains: [N, M] points, more is better.
    """
    points = np.asarray(gains, dtype=np.float64)
    if not len(points):
        return []
    as_good = (points[:, None] >= points[None]).all(axis=2)  # [N, N] the first as the second
    better = (points[:, None] > points[None]).any(axis=2)
    return [not beaten for beaten in (as_good & better).any(axis=0)]
