"""Assignment by how well a prediction solves both tasks, class and box."""

from __future__ import annotations

import torch
from torch import Tensor

from detectors.assigners.scene import DenseAssigner, Scene, at, inside, settle
from detectors.assigners.task_aligned_config import TaskAligned
from detectors.boxes import pairwise_iou

MARGIN = 0.01  # pixels that a point has to lie inside a box


class TaskAlignedChooser(DenseAssigner, TaskAligned):
    """Does what `TaskAligned` says."""

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
