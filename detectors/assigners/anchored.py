"""Assigners that compare objects with anchors, squares around the points, not with predictions."""

from __future__ import annotations

import torch
from torch import Tensor

from detectors.assigners.anchored_config import ATSS, MaxIoU
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


class ATSSChooser(DenseAssigner, ATSS):
    """Does what `ATSS` says."""

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


class MaxIoUChooser(DenseAssigner, MaxIoU):
    """Does what `MaxIoU` says."""

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
