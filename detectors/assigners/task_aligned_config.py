"""What can be chosen of the assigner that looks at class and box alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detectors.contract import Called


@dataclass(frozen=True)
class TaskAligned(Called):
    """Give each object the predictions with the highest score^alpha x overlap^beta.

    The best are chosen among all predictions; those whose point lies outside the box then drop out.
    A prediction that several objects take goes to the one that it overlaps most.

    Trained against the overlap here; TOOD scales the metric itself to the object's best overlap.

    Source: TOOD, arXiv:2108.07755, sec. 3.2; open-mmlab/mmdetection v3.3.0
    mmdet/models/task_modules/assigners/task_aligned_assigner.py (Apache-2.0), equal in assignments
    (tests/detectors/test_assigners.py).
    """

    makes: ClassVar[str] = "detectors.assigners.task_aligned:TaskAlignedChooser"

    topk: int = 13
    """Predictions an object chooses; in no published table."""
    alpha: float = 1.0
    """Exponent of the score; in no published table."""
    beta: float = 6.0
    """Exponent of the overlap; in no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.topk < 1:
            raise ValueError("topk must be at least 1")
        if min(self.alpha, self.beta) < 0:
            raise ValueError("alpha and beta must not be negative")
