"""What of the Hungarian matching can be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detectors.contract import Called


@dataclass(frozen=True)
class HungarianMatcher(Called):
    """Pair queries with objects one to one at the lowest sum of costs; as in rtdetr/tableA.

    A cost that is not finite counts as the lowest, so that a broken prediction is matched and
    shows in the loss instead of going unnoticed.

    Source: DETR, arXiv:2005.12872, sec. 3.1; lyuwenyu/RT-DETR@068dfde
    rtdetr_pytorch/src/zoo/rtdetr/matcher.py (Apache-2.0), equal in its pairs
    (tests/detectors/test_rtdetr_criterion.py).
    Differs: all layers and images at once, and one copy to the host for all of them.
    """

    makes: ClassVar[str] = "detectors.matching:HungarianMatching"

    cls_cost: float = 2.0
    """Weight of the focal cost of the object's class."""
    bbox_cost: float = 5.0
    """Weight of the distance between the boxes, the sum over x, y, width and height as shares of
    the input."""
    giou_cost: float = 2.0
    """Weight of the generalised overlap, which lowers the cost."""
    alpha: float = 0.25
    """Share of the focal cost for what the class is, the rest for what it is not."""
    gamma: float = 2.0
    """Exponent of the focal cost: how much less a score counts that is right already."""

    def __post_init__(self) -> None:
        """Refuse values that make no matching."""
        costs = (self.cls_cost, self.bbox_cost, self.giou_cost)
        if min(costs) < 0 or max(costs) == 0:
            raise ValueError("cls_cost, bbox_cost and giou_cost must not be negative, nor all 0")
        if not 0 <= self.alpha <= 1 or self.gamma < 0:
            raise ValueError("alpha must be in [0, 1] and gamma not negative")
