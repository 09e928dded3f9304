"""What RTMDet minimises."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from detectors.interface import IGNORED, Assigner, Assignment, DenseOutputs, Target
from detectors.losses import average_over_processes, giou_loss, quality_focal_loss
from detectors.rtmdet.config import RTMDetCriterionConfig


class RTMDetCriterion(nn.Module):
    """Quality focal loss everywhere and GIoU loss on positives, weighted by their overlap.

    Both are divided by the sum of the overlaps of all positives, averaged over processes. An
    ignored prediction counts nowhere. With `labels: one` an overlap counts as 1 everywhere.

    Source: RTMDet, arXiv:2212.07784, sec. 3.3; open-mmlab/mmdetection v3.3.0
    mmdet/models/dense_heads/rtmdet_head.py (Apache-2.0), equal in numbers
    (tests/detectors/test_rtmdet_golden.py).
    Differs: each loss is one scalar, not one a level.
    """

    def __init__(self, config: RTMDetCriterionConfig, assigner: Assigner) -> None:
        super().__init__()
        self.config = config
        self.assigner = assigner

    def forward(self, outputs: DenseOutputs, targets: list[Target]) -> dict[str, Tensor]:
        """Return `loss_cls` and `loss_giou` of a batch."""
        assignments = self.assigner(
            outputs.logits.detach(),
            outputs.boxes.detach(),
            outputs.points,
            outputs.strides,
            targets,
        )
        image, point, boxes, labels, quality = _positives(assignments, targets)
        if self.config.labels == "one":
            quality = torch.ones_like(quality)
        wanted = torch.zeros_like(outputs.logits)
        wanted[image, point, labels] = quality
        counted = torch.stack([each.gt_index for each in assignments]) != IGNORED
        loss_cls = quality_focal_loss(outputs.logits, wanted, self.config.beta).sum(dim=2)
        loss_cls = (loss_cls * counted).sum()
        loss_giou = (quality * giou_loss(outputs.boxes[image, point], boxes)).sum()
        normaliser = average_over_processes(quality.sum()).clamp(min=1)
        return {
            "loss_cls": self.config.cls_weight * loss_cls / normaliser,
            "loss_giou": self.config.giou_weight * loss_giou / normaliser,
        }


class _Positives(NamedTuple):
    """The P predictions of a batch that have an object to find."""

    image: Tensor  # [P] index into the batch
    point: Tensor  # [P] index into the predictions of the image
    boxes: Tensor  # [P, 4] of the object, xyxy, input pixels
    labels: Tensor  # [P] of the object
    quality: Tensor  # [P] overlap with the object when it was assigned


def _positives(assignments: list[Assignment], targets: list[Target]) -> _Positives:
    indices = torch.stack([each.gt_index for each in assignments])
    image, point = (indices >= 0).nonzero(as_tuple=True)
    counts = [len(target.labels) for target in targets]
    before = torch.tensor([0, *counts[:-1]], device=indices.device).cumsum(0)
    gt = indices[image, point] + before[image]
    boxes = torch.cat([target.boxes for target in targets])[gt]
    labels = torch.cat([target.labels for target in targets])[gt]
    quality = torch.stack([each.quality for each in assignments])[image, point]
    return _Positives(image, point, boxes, labels, quality)
