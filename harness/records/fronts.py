"""Fronts: which of several results no other dominates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def dominates(better: Sequence[float], worse: Sequence[float]) -> bool:
    """Say whether gains are at least as good in all objectives and better in one."""
    pairs = list(zip(better, worse, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def front(gains: Sequence[Sequence[float]] | NDArray[np.float64]) -> list[bool]:
    """Mark the points that no other dominates; of equal points, all are on the front or none.

    Args:
        gains: [N, M] points, more is better.
    """
    points = np.asarray(gains, dtype=np.float64)
    if not len(points):
        return []
    as_good = np.all(points[:, None] >= points[None], axis=2)  # [N, N] the first as the second
    better = np.any(points[:, None] > points[None], axis=2)
    beaten: NDArray[np.bool_] = np.any(as_good & better, axis=0)
    return [not each for each in beaten]
