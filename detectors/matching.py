"""Which query has to find which object: the cheapest pairing of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from detectors.boxes import giou, shares_to_boxes
from detectors.interface import as_float32
from detectors.queries import Matches, Objects, Predictions, pad_objects, upload

EPS = 1e-8  # smallest probability whose logarithm is taken
LOWEST = -1e8  # far below any cost


@dataclass(frozen=True)
class HungarianMatcher:
    """Pair queries with objects one to one at the lowest sum of costs; as in rtdetr/tableA.

    A cost that is not finite counts as the lowest, so that a broken prediction is matched and
    shows in the loss instead of going unnoticed.

    Source: DETR, arXiv:2005.12872, sec. 3.1; lyuwenyu/RT-DETR@068dfde
    rtdetr_pytorch/src/zoo/rtdetr/matcher.py (Apache-2.0), equal in its pairs
    (tests/detectors/test_rtdetr_criterion.py).
    Differs: all layers and images at once, and one copy to the host for all of them.
    """

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

    @torch.no_grad()
    def __call__(self, predictions: Predictions, objects: Objects) -> Matches:
        """Match the queries of every layer and image; waits for the device once.

        Args:
            predictions: of L layers for B images.
            objects: of the same B images.

        Returns:
            Pairs by layer, then image; `image` counts over L * B (layer * B + image). Every layer
            has equally many: of each image the number of its objects or queries, whichever is less.
        """
        from scipy.optimize import linear_sum_assignment  # slow to import, needed in training only

        costs = self._costs(as_float32(predictions), objects)
        layers = len(costs)
        matrices = costs.flatten(0, 1).cpu().numpy()  # [L * B, M, Q]
        pairs = [
            linear_sum_assignment(matrix[:count])
            for matrix, count in zip(matrices, objects.counts * layers, strict=True)
        ]
        sizes = [len(queries) for _, queries in pairs]
        first = np.tile(np.cumsum((0, *objects.counts[:-1])), layers)  # object of each image
        matches = (
            np.arange(len(pairs)).repeat(sizes),
            np.concatenate([queries for _, queries in pairs]),
            np.concatenate([found for found, _ in pairs]) + first.repeat(sizes),
        )
        return Matches(*upload(np.stack(matches), objects.labels.device))

    def _costs(self, predictions: Predictions, objects: Objects) -> Tensor:
        """Return the cost of every object and query, [L, B, M, Q]; M objects in every image."""
        labels, boxes = pad_objects(objects, 0)
        predicted, boxes = predictions.boxes[:, :, None], boxes[:, :, None]
        distance = (predicted - boxes).abs().sum(dim=-1)  # of [L, B, 1, Q, 4] and [B, M, 1, 4]
        corners = [shares_to_boxes(each, objects.size) for each in (predicted, boxes)]
        overlap = giou(*corners)
        cost = self.bbox_cost * distance - self.giou_cost * overlap
        cost = cost + self.cls_cost * self._class_costs(predictions.logits, labels)
        return cost.nan_to_num(nan=LOWEST, posinf=LOWEST, neginf=LOWEST)

    def _class_costs(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return what class each query should have, from low to high.

        Args:
            logits: [L, B, Q, C], before sigmoid.
            labels: [B, M].

        Returns:
            [L, B, M, Q].
        """
        index = labels[None, :, :, None].expand(len(logits), -1, -1, logits.shape[2])
        scores = logits.transpose(2, 3).gather(2, index).sigmoid()
        is_not = (1 - self.alpha) * scores.pow(self.gamma) * -(1 - scores + EPS).log()
        is_so = self.alpha * (1 - scores).pow(self.gamma) * -(scores + EPS).log()
        return is_so - is_not
