"""Assigners that take an object's cheapest predictions, as many as its overlaps add up to."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from detectors.assigners.candidates import compact, narrow, widen
from detectors.assigners.dynamic_config import DynamicSoftLabel, SimOTA
from detectors.assigners.scene import (
    DenseAssigner,
    Scene,
    inside,
    near_center,
    squared_distance,
)
from detectors.boxes import pairwise_iou
from detectors.interface import BACKGROUND
from detectors.losses import quality_focal_loss

EPS = 1e-7  # keeps the logarithm of an overlap finite
OUTSIDE = 1e5  # cost of a point outside box and centre, above any other cost


class DynamicSoftLabelChooser(DenseAssigner, DynamicSoftLabel):
    """Does what `DynamicSoftLabel` says."""

    def choose(self, scene: Scene) -> Tensor:
        """Return the object of each prediction; see `DenseAssigner`."""
        index, exists = compact(self._candidates(scene))
        few = narrow(scene, index)
        ious = pairwise_iou(few.objects.boxes, few.boxes) * exists[:, None]  # [B, M, K]
        cost = self._cost(few, ious)
        cost.clamp_(max=torch.finfo(cost.dtype).max)  # infinity is for what must not be chosen
        cost.masked_fill_(~(few.objects.real[..., None] & exists[:, None]), torch.inf)
        return widen(match(cost, ious, self.topk), index, scene.boxes.shape[1])

    def _candidates(self, scene: Scene) -> Tensor:
        """Return which points lie in some box or its centre region, [B, N]."""
        within, central = self._regions(scene)
        return ((within | central) & scene.objects.real[..., None]).any(dim=1)

    def _regions(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """Return which points are strictly inside each box and its centre region, [B, M, N]."""
        points, boxes = scene.points[:, None], scene.objects.boxes[:, :, None]
        within = inside(points, boxes)
        if self.center_prior == "soft" or self.center_weight == 0:
            return within, within
        return within, near_center(points, self.center_radius * scene.strides[:, None], boxes)

    def _cost(self, scene: Scene, ious: Tensor) -> Tensor:
        """Return the cost of every pair, [B, M, N]."""
        cost = torch.zeros_like(ious)
        if self.cls_weight > 0:
            cost += self.cls_weight * self._class_cost(scene, ious)
        if self.iou_weight > 0:
            overlap = -(ious + EPS).log() if self.iou_cost == "log" else 1 - ious
            cost += self.iou_weight * overlap
        if self.center_weight > 0:
            cost += self.center_weight * self._center_cost(scene)
        return cost

    def _class_cost(self, scene: Scene, ious: Tensor) -> Tensor:
        """Return the cost of all classes, of which only the object's own depends on the pair.

        A prediction's sum over classes is taken once, then the own class is exchanged, since
        [B, M, N, C] would not fit into memory.
        """
        soft = self.class_cost == "soft"
        beta, wanted = (2.0, ious) if soft else (0.0, torch.ones_like(ious))
        own = scene.own_logits()
        others = absence_cost(scene.logits.float(), beta).sum(dim=2)[:, None]
        return others - absence_cost(own, beta) + quality_focal_loss(own, wanted, beta)

    def _center_cost(self, scene: Scene) -> Tensor:
        """Return how badly each point lies to each box, [B, M, N]."""
        if self.center_prior == "hard":
            within, central = self._regions(scene)
            return OUTSIDE * ~(within & central)
        points, boxes = scene.points[:, None], scene.objects.boxes[:, :, None]
        distance = squared_distance(points, boxes).sqrt() / scene.strides[:, None]
        return ((distance - self.center_radius) * math.log2(self.center_base)).exp2()


class SimOTAChooser(DenseAssigner, SimOTA):
    """Does what `SimOTA` says."""

    def choose(self, scene: Scene) -> Tensor:
        """Return the object of each prediction; see `DenseAssigner`."""
        chosen: Tensor = self._dynamic().worker().choose(scene)
        return chosen


def absence_cost(logits: Tensor, beta: float) -> Tensor:
    """Return the quality focal loss against 0, which has a short form; the same shape."""
    entropy = softplus(logits)
    return entropy * logits.sigmoid().pow_(beta) if beta > 0 else entropy


def match(cost: Tensor, ious: Tensor, topk: int) -> Tensor:
    """Let each object take its cheapest predictions; one wanted twice goes where it costs least.

    Args:
        cost: [B, M, N]; infinite for pairs that must not be.
        ious: [B, M, N].
        topk: most predictions of an object.

    Returns:
        [B, N] object of each prediction, or `BACKGROUND`.
    """
    topk = min(topk, cost.shape[2])
    counts = dynamic_counts(ious, topk)
    cheapest = cost.topk(topk, dim=2, largest=False)  # [B, M, topk]
    taken = torch.arange(topk, device=cost.device) < counts[..., None]
    taken = (taken & cheapest.values.isfinite()).flatten(1)
    wanted = cheapest.indices.flatten(1)  # [B, M * topk]
    takers = wanted.new_zeros(cost[:, 0].shape).scatter_add_(1, wanted, taken.long())
    columns = cost.gather(2, wanted[:, None].expand(-1, cost.shape[1], -1))
    own = torch.arange(cost.shape[1], device=cost.device).repeat_interleave(topk)
    winner = torch.where(takers.gather(1, wanted) > 1, columns.argmin(dim=1), own)
    found = takers.new_full(takers.shape, BACKGROUND)
    return found.scatter_reduce_(1, wanted, torch.where(taken, winner, BACKGROUND), "amax")


def dynamic_counts(ious: Tensor, topk: int) -> Tensor:
    """Return how many predictions each object deserves: the sum of its largest overlaps, [B, M]."""
    topk = min(topk, ious.shape[2])
    return ious.topk(topk, dim=2).values.sum(dim=2).int().clamp(min=1)
