"""Assigners that take an object's cheapest predictions, as many as its overlaps add up to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from detectors.assigners.candidates import compact, narrow, widen
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


@dataclass(frozen=True)
class DynamicSoftLabel(DenseAssigner):
    """Give each object the predictions that cost it least, as many as its overlaps add up to.

    Only points inside some box, or near its centre under a hard prior, are candidates; an object
    with no such point of its own still takes the cheapest candidate. A prediction that several
    objects want goes to the one it costs least.

    Source: RTMDet, arXiv:2212.07784, sec. 3.3; open-mmlab/mmdetection v3.3.0
    mmdet/models/task_modules/assigners/dynamic_soft_label_assigner.py (Apache-2.0), equal in
    assignments (tests/detectors/test_assigners.py). Plain class cost and hard prior are those of
    `SimOTA`.
    Differs: costs of candidates only; classes are summed once a prediction, not once a pair.
    """

    topk: int = 13
    """Largest overlaps that are added up to an object's number of predictions, and the most that
    it can take; in no published table."""
    cls_weight: float = 1.0
    """Weight of the class cost, 0 for none. Published: 1 (rtmdet/table6a_cost)."""
    iou_weight: float = 3.0
    """Weight of the overlap cost, 0 for none. Published: 3 (rtmdet/table6a_cost)."""
    center_weight: float = 1.0
    """Weight of the centre cost, 0 for none. Published: 1 (rtmdet/table6a_cost)."""
    class_cost: Literal["soft", "plain"] = "soft"
    """Cross entropy against the overlap, focused; or against one. Swept by rtmdet/table6a_cost."""
    iou_cost: Literal["log", "linear"] = "log"
    """Minus the logarithm of the overlap, or one minus it. Swept by rtmdet/table6a_cost."""
    center_prior: Literal["soft", "hard"] = "soft"
    """A cost that grows with the distance from the box's centre; or a bar to all points outside the
    box or its centre region. Swept by rtmdet/table6a_cost."""
    center_radius: float = 3.0
    """Distance, in strides, at which the soft centre cost is 1; or half the side of the hard centre
    region, 2.5 in SimOTA. In no published table."""
    center_base: float = 10.0
    """Factor by which the soft centre cost grows a stride; in no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.topk < 1:
            raise ValueError("topk must be at least 1")
        if min(self.cls_weight, self.iou_weight, self.center_weight, self.center_radius) < 0:
            raise ValueError("weights and center_radius must not be negative")
        if self.center_base <= 0:
            raise ValueError("center_base must be above 0")

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


@dataclass(frozen=True)
class SimOTA(DenseAssigner):
    """Give each object its cheapest predictions near its centre: `DynamicSoftLabel`, but hard.

    The class cost is the cross entropy against one, the overlap's its logarithm; a point outside
    box or centre region is taken only by an object without a better one.

    Source: YOLOX, arXiv:2107.08430, sec. 2.1; open-mmlab/mmdetection v3.3.0
    mmdet/models/task_modules/assigners/sim_ota_assigner.py (Apache-2.0), equal in assignments
    (tests/detectors/test_assigners.py).
    """

    topk: int = 10
    """Largest overlaps that are added up to an object's number of predictions, and the most that
    it can take; in no published table."""
    cls_weight: float = 1.0
    """Weight of the class cost, 0 for none; in no published table."""
    iou_weight: float = 3.0
    """Weight of the overlap cost, 0 for none; in no published table."""
    center_radius: float = 2.5
    """Half the side of the centre region, in strides; in no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        self._dynamic()

    def choose(self, scene: Scene) -> Tensor:
        """Return the object of each prediction; see `DenseAssigner`."""
        return self._dynamic().choose(scene)

    def _dynamic(self) -> DynamicSoftLabel:
        return DynamicSoftLabel(
            topk=self.topk,
            cls_weight=self.cls_weight,
            iou_weight=self.iou_weight,
            class_cost="plain",
            center_prior="hard",
            center_radius=self.center_radius,
        )


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
