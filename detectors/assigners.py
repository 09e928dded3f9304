"""Label assignment: which predictions have to find which objects, decided anew at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from detectors.boxes import pairwise_iou
from detectors.interface import Assignment, Target
from detectors.losses import quality_focal_loss

EPS = 1e-7  # keeps the logarithm of an overlap finite
OUTSIDE = 1e5  # cost of a point outside box and centre, above any other cost


@dataclass(frozen=True)
class DynamicSoftLabel:
    """Give each object the predictions that cost it least, as many as its overlaps add up to.

    Only points inside some box, or near its centre under a hard prior, are candidates; an object
    with no such point of its own still takes the cheapest candidate. A prediction that several
    objects want goes to the one it costs least.

    Source: RTMDet, arXiv:2212.07784, sec. 3.3; open-mmlab/mmdetection v3.3.0
    mmdet/models/task_modules/assigners/dynamic_soft_label_assigner.py (Apache-2.0), equal in
    assignments (tests/detectors/test_assigners.py). Plain class cost and hard prior are those of
    SimOTA, arXiv:2107.08430, sec. 2.1; see sim_ota_assigner.py beside it.
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

    @torch.no_grad()
    def __call__(
        self,
        logits: Tensor,
        boxes: Tensor,
        points: Tensor,
        strides: Tensor,
        targets: list[Target],
    ) -> list[Assignment]:
        """Assign predictions to objects; see `detectors.interface.Assigner`."""
        gt_boxes, labels, real = _pad(targets)
        if labels.shape[1] == 0:
            nothing = torch.full(boxes.shape[:2], -1, device=boxes.device)
            return _assignments(nothing, torch.zeros_like(boxes[..., 0], dtype=torch.float32))
        inside, central = self._regions(points, strides, gt_boxes)
        candidates = ((inside | central) & real[:, None]).any(dim=2)  # [B, N]
        ious = pairwise_iou(boxes.float(), gt_boxes) * candidates[..., None]  # [B, N, M]
        cost = self._cost(logits.float(), labels, ious)
        if self.center_weight > 0:
            prior = self._center_cost(points, strides, gt_boxes, inside & central)
            cost += self.center_weight * prior
        cost.clamp_(max=torch.finfo(cost.dtype).max)  # infinity is for what must not be chosen
        cost.masked_fill_(~(candidates[..., None] & real[:, None]), torch.inf)
        return _assignments(*_match(cost, ious, self.topk))

    def _regions(self, points: Tensor, strides: Tensor, gt_boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return which points are strictly inside each box and its centre region, [B, N, M]."""
        inside = _inside(points, gt_boxes[:, None])
        if self.center_prior == "soft" or self.center_weight == 0:
            return inside, inside
        centers = _centers(gt_boxes)[:, None]  # [B, 1, M, 2]
        reach = (self.center_radius * strides)[:, None, None]  # [N, 1, 1]
        return inside, _inside(points, torch.cat((centers - reach, centers + reach), dim=-1))

    def _cost(self, logits: Tensor, labels: Tensor, ious: Tensor) -> Tensor:
        """Return class and overlap cost of every pair.

        Args:
            logits: [B, N, C].
            labels: [B, M].
            ious: [B, N, M].

        Returns:
            [B, N, M].
        """
        cost = torch.zeros_like(ious)
        if self.cls_weight > 0:
            cost += self.cls_weight * self._class_cost(logits, labels, ious)
        if self.iou_weight > 0:
            overlap = -(ious + EPS).log() if self.iou_cost == "log" else 1 - ious
            cost += self.iou_weight * overlap
        return cost

    def _class_cost(self, logits: Tensor, labels: Tensor, ious: Tensor) -> Tensor:
        """Return the cost of all classes, of which only the object's own depends on the pair.

        A prediction's sum over classes is taken once, then the own class is exchanged, since
        [B, N, M, C] would not fit into memory.
        """
        soft = self.class_cost == "soft"
        beta, wanted = (2.0, ious) if soft else (0.0, torch.ones_like(ious))
        rest = quality_focal_loss(logits, torch.zeros_like(logits), beta).sum(dim=2, keepdim=True)
        own = logits.gather(2, labels[:, None].expand(-1, logits.shape[1], -1))  # [B, N, M]
        exchanged = quality_focal_loss(own, wanted, beta)
        return rest - quality_focal_loss(own, torch.zeros_like(own), beta) + exchanged

    def _center_cost(
        self, points: Tensor, strides: Tensor, gt_boxes: Tensor, allowed: Tensor
    ) -> Tensor:
        """Return how badly each point lies to each box, [B, N, M]."""
        if self.center_prior == "hard":
            return OUTSIDE * ~allowed
        offsets = points[:, None] - _centers(gt_boxes)[:, None]  # [B, N, M, 2]
        distance = offsets.pow(2).sum(dim=-1).sqrt() / strides[:, None]
        return self.center_base ** (distance - self.center_radius)


def _pad(targets: list[Target]) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes [B, M, 4], labels [B, M] and which of them are real [B, M]."""
    boxes = pad_sequence([target.boxes.float() for target in targets], batch_first=True)
    labels = pad_sequence([target.labels for target in targets], batch_first=True)
    counts = torch.tensor([len(target.labels) for target in targets], device=labels.device)
    real = torch.arange(labels.shape[1], device=labels.device) < counts[:, None]
    return boxes, labels, real


def _centers(boxes: Tensor) -> Tensor:
    """Return the centres [..., 2] of boxes [..., 4]."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Return which points [N, 2] are strictly inside boxes [B, N or 1, M, 4]; [B, N, M]."""
    points = points[:, None]
    return ((points > boxes[..., :2]) & (points < boxes[..., 2:])).all(dim=-1)


def _match(cost: Tensor, ious: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Let each object take its cheapest predictions, then settle who keeps those taken twice.

    Args:
        cost: [B, N, M]; infinite for pairs that must not be.
        ious: [B, N, M].
        topk: most predictions of an object.

    Returns:
        gt_index: [B, N], -1 = background.
        quality: [B, N] overlap of the pair.
    """
    topk = min(topk, cost.shape[1])
    counts = ious.topk(topk, dim=1).values.sum(dim=1).int().clamp(min=1)  # [B, M]
    cheapest = cost.topk(topk, dim=1, largest=False)  # [B, topk, M]
    ranks = torch.arange(topk, device=cost.device)[:, None]
    taken = (ranks < counts[:, None]) & cheapest.values.isfinite()
    pairs = torch.zeros_like(cost, dtype=torch.uint8).scatter_(1, cheapest.indices, taken.byte())
    takers = pairs.sum(dim=2)
    winner = torch.where(takers > 1, cost.argmin(dim=2), pairs.argmax(dim=2))
    quality = ious.gather(2, winner[..., None]).squeeze(2) * (takers > 0)
    return torch.where(takers > 0, winner, -1), quality


def _assignments(gt_index: Tensor, quality: Tensor) -> list[Assignment]:
    return [Assignment(*image) for image in zip(gt_index, quality, strict=True)]
