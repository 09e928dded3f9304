"""Assignment by how well a prediction solves both tasks, class and box."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from detectors.assigners.scene import DenseAssigner, Scene, at, inside, settle
from detectors.boxes import pairwise_iou

MARGIN = 0.01  # pixels that a point has to lie inside a box


@dataclass(frozen=True)
class TaskAligned(DenseAssigner):
    """Give each object the predictions with the highest score^alpha x overlap^beta.

    The best are chosen among all predictions; those whose point lies outside the box then drop out.
    A prediction that several objects take goes to the one that it overlaps most.

    Trained against the overlap here; TOOD scales the metric itself to the object's best overlap.

    Source: TOOD, arXiv:2108.07755, sec. 3.2; open-mmlab/mmdetection v3.3.0
    mmdet/models/task_modules/assigners/task_aligned_assigner.py (Apache-2.0), equal in assignments
    (tests/detectors/test_assigners.py).
    """

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

    def choose(self, scene: Scene) -> Tensor:
        """Return the object of each prediction; see `DenseAssigner`."""
        boxes, predictions = scene.objects.boxes, scene.boxes.shape[1]
        ious = pairwise_iou(boxes, scene.boxes)  # [B, M, N]
        metrics = scene.own_logits().sigmoid_().pow_(self.alpha) * ious.pow(self.beta)
        best = metrics.topk(min(self.topk, predictions), dim=2)  # [B, M, K]
        within = inside(at(scene.points, best.indices), boxes[:, :, None], MARGIN)
        taken = (best.values > 0) & within & scene.objects.real[..., None]
        merits = ious.gather(2, best.indices).masked_fill(~taken, -torch.inf)
        return settle(best.indices, merits, predictions)
