"""Assigners that compare objects with anchors, squares around the points, not with predictions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from detectors.assigners.scene import (
    DenseAssigner,
    Scene,
    anchors,
    at,
    inside,
    levels,
    settle,
    squared_distance,
)
from detectors.boxes import iou, pairwise_iou
from detectors.interface import BACKGROUND, IGNORED

MARGIN = 0.01  # pixels that a point has to lie inside a box


@dataclass(frozen=True)
class ATSS(DenseAssigner):
    """Give each object the nearby anchors that overlap it more than nearby anchors usually do.

    Of each level the nearest anchors are candidates; the bar is the mean of their overlaps plus
    one standard deviation. An anchor that several objects take goes to the one it overlaps most.

    Source: ATSS, arXiv:1912.02424, algorithm 1; open-mmlab/mmdetection v3.3.0
    mmdet/models/task_modules/assigners/atss_assigner.py (Apache-2.0), equal in assignments
    (tests/detectors/test_assigners.py).
    """

    topk: int = 9
    """Nearest anchors of each level; in no published table."""
    anchor_scale: float = 8.0
    """Side of an anchor, in strides; in no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.topk < 1 or self.anchor_scale <= 0:
            raise ValueError("topk must be at least 1 and anchor_scale above 0")

    def choose(self, scene: Scene) -> Tensor:
        """Return the object of each prediction; see `DenseAssigner`."""
        boxes = scene.objects.boxes[:, :, None]
        index = self._nearest(scene)  # [B, M, K]
        points, strides = at(scene.points, index), at(scene.strides, index)
        ious = iou(anchors(points, strides, self.anchor_scale), boxes)
        bar = ious.mean(dim=2, keepdim=True) + ious.std(dim=2, keepdim=True)
        taken = (ious >= bar) & inside(points, boxes, MARGIN) & scene.objects.real[..., None]
        return settle(index, ious.masked_fill(~taken, -torch.inf), scene.boxes.shape[1])

    def _nearest(self, scene: Scene) -> Tensor:
        """Return the anchors of every level that are nearest to each object's centre."""
        distance = squared_distance(scene.points[:, None], scene.objects.boxes[:, :, None])
        found, first = [], 0
        for level in torch.split(distance, levels(scene.strides)[1], dim=2):
            nearest = level.topk(min(self.topk, level.shape[2]), dim=2, largest=False)
            found.append(nearest.indices + first)
            first += level.shape[2]
        return torch.cat(found, dim=2)


@dataclass(frozen=True)
class MaxIoU(DenseAssigner):
    """Give each anchor the object that it overlaps most, if it overlaps enough.

    Anchors between the two bars are ignored. Then each object takes the anchors that overlap it
    most of all, whatever they had before; all of them where several are equal, and the last object
    where several want one.

    Source: Faster R-CNN, arXiv:1506.01497, sec. 3.1.2; open-mmlab/mmdetection v3.3.0
    mmdet/models/task_modules/assigners/max_iou_assigner.py (Apache-2.0), equal in assignments
    (tests/detectors/test_assigners.py).
    Differs: one anchor a point; an object that no anchor overlaps takes none, there every anchor
    where `min_overlap` is 0.
    """

    positive_overlap: float = 0.5
    """Overlap from which an anchor is an object's; 0.7 in Faster R-CNN. In no published table."""
    negative_overlap: float = 0.4
    """Overlap below which an anchor is background; 0.3 in Faster R-CNN. In no published table."""
    min_overlap: float = 0.0
    """Best overlap from which an object takes its best anchors; 0.3 in Faster R-CNN. In no
    published table."""
    match_low_quality: bool = True
    """Whether objects take their best anchors, however little these overlap; in no published
    table."""
    anchor_scale: float = 8.0
    """Side of an anchor, in strides; in no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if not 0 <= self.negative_overlap <= self.positive_overlap <= 1:
            raise ValueError("must be 0 <= negative_overlap <= positive_overlap <= 1")
        if self.min_overlap < 0 or self.anchor_scale <= 0:
            raise ValueError("min_overlap must not be negative and anchor_scale above 0")

    def choose(self, scene: Scene) -> Tensor:
        """Return the object of each prediction; see `DenseAssigner`."""
        squares = anchors(scene.points, scene.strides, self.anchor_scale)  # [1, N, 4]
        ious = pairwise_iou(scene.objects.boxes, squares)  # [B, M, N]; 0 where filled up
        best, winner = ious.max(dim=1)
        middle = torch.where(best < self.negative_overlap, BACKGROUND, IGNORED)
        found = torch.where((best >= self.positive_overlap) & (best > 0), winner, middle)
        if not self.match_low_quality:
            return found
        claimant = self._claimant(ious)
        return torch.where(claimant == BACKGROUND, found, claimant)

    def _claimant(self, ious: Tensor) -> Tensor:
        """Return the last object that has no better anchor than this, [B, N]."""
        top = ious.amax(dim=2, keepdim=True)  # [B, M, 1]
        top = torch.where((top >= self.min_overlap) & (top > 0), top, torch.nan)  # equals nothing
        places = torch.arange(ious.shape[1], dtype=torch.int32, device=ious.device)[:, None]
        return torch.where(ious == top, places, BACKGROUND).amax(dim=1).long()
