"""What can be chosen of the assigner of one prediction to each object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detectors.contract import Called
from detectors.matching_config import HungarianMatcher


@dataclass(frozen=True)
class Hungarian(Called):
    """Give each object one prediction, no matter where, at the lowest sum of costs.

    The costs are those of `HungarianMatcher`, whose pairing this is; boxes are compared as shares
    of what the points cover. Waits for the device once.

    Source: DETR, arXiv:2005.12872, sec. 3.1.
    """

    makes: ClassVar[str] = "detectors.assigners.hungarian:HungarianChooser"

    cls_cost: float = 2.0
    """Weight of the focal cost of the object's class; in no published table."""
    bbox_cost: float = 5.0
    """Weight of the distance between the boxes, the sum over x, y, width and height as shares of
    the input; in no published table."""
    giou_cost: float = 2.0
    """Weight of the generalised overlap, which lowers the cost; in no published table."""
    alpha: float = 0.25
    """Share of the focal cost for what the class is, the rest for what it is not."""
    gamma: float = 2.0
    """Exponent of the focal cost: how much less a score counts that is right already."""

    def __post_init__(self) -> None:
        """Refuse values that make no matching."""
        self._matcher()

    def _matcher(self) -> HungarianMatcher:
        return HungarianMatcher(
            self.cls_cost, self.bbox_cost, self.giou_cost, self.alpha, self.gamma
        )
