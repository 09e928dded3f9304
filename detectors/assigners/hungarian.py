"""Assignment of one prediction to each object."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from detectors.assigners.scene import DenseAssigner, Scene
from detectors.boxes import boxes_to_shares
from detectors.interface import BACKGROUND
from detectors.matching import HungarianMatcher
from detectors.queries import Objects, Predictions, places


@dataclass(frozen=True)
class Hungarian(DenseAssigner):
    """Give each object one prediction, no matter where, at the lowest sum of costs.

    The costs are those of `HungarianMatcher`, whose pairing this is; boxes are compared as shares
    of what the points cover. Waits for the device once.

    Source: DETR, arXiv:2005.12872, sec. 3.1.
    """

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

    def choose(self, scene: Scene) -> Tensor:
        """Return the object of each prediction; see `DenseAssigner`."""
        low, high = scene.points[0].aminmax(dim=0)
        extent = (high - low + scene.strides.min()).repeat(2)  # [4] width and height, twice
        boxes, wanted = (
            boxes_to_shares(each / extent, (1, 1)) for each in (scene.boxes, scene.objects.boxes)
        )
        counts = scene.objects.counts
        where = places(counts, boxes.device)
        objects = Objects(scene.objects.labels[where], wanted[where], counts, (1, 1))
        matches = self._matcher()(Predictions(scene.logits[None], boxes[None]), objects)
        found = torch.full(scene.boxes.shape[:2], BACKGROUND, device=boxes.device)
        found[matches.image, matches.query] = where[1][matches.object]
        return found

    def _matcher(self) -> HungarianMatcher:
        return HungarianMatcher(
            self.cls_cost, self.bbox_cost, self.giou_cost, self.alpha, self.gamma
        )
