"""Assignment as the transport of labels from objects and background to points."""

from __future__ import annotations

import torch
from torch import Tensor

from detectors.assigners.candidates import compact, narrow, widen
from detectors.assigners.dynamic import dynamic_counts
from detectors.assigners.ota_config import OTA
from detectors.assigners.scene import (
    DenseAssigner,
    Scene,
    inside,
    near_center,
    squared_distance,
)
from detectors.boxes import pairwise_iou
from detectors.interface import BACKGROUND
from detectors.losses import focal_loss

EPS = 1e-7  # keeps the logarithm of an overlap finite
FORBIDDEN = 1e5  # cost of what must not be, above any other
NEGLIGIBLE = -80.0  # exponent of what a sum in float32 does not feel
NOTHING = 1e-9  # labels of a supplier that has none; its logarithm is finite


class OTAChooser(DenseAssigner, OTA):
    """Does what `OTA` says."""

    def choose(self, scene: Scene) -> Tensor:
        """Return the object of each prediction; see `DenseAssigner`."""
        allowed = self._allowed(scene)  # [B, M, N]
        index, exists = compact(allowed.any(dim=1))
        few = narrow(scene, index)
        allowed = allowed.gather(2, index[:, None].expand(-1, allowed.shape[1], -1))
        allowed &= exists[:, None]
        ious = pairwise_iou(few.objects.boxes, few.boxes) * allowed  # [B, M, K]
        supply = dynamic_counts(ious, self.topk).float() * scene.objects.real
        rest = exists.sum(dim=1, keepdim=True) - supply.sum(dim=1, keepdim=True)
        supply = torch.cat((supply, rest), dim=1)
        costs = self._costs(few, ious, allowed) / self.epsilon
        found = sinkhorn(costs, supply, exists, self.iterations).argmax(dim=1)
        found = torch.where(exists & (found < allowed.shape[1]), found, BACKGROUND)
        return widen(found, index, scene.boxes.shape[1])

    def _allowed(self, scene: Scene) -> Tensor:
        """Return which points each object may take, [B, M, N]: at least one."""
        points, boxes = scene.points[:, None], scene.objects.boxes[:, :, None]
        reach = self.center_radius * scene.strides[:, None]
        allowed = inside(points, boxes) & near_center(points, reach, boxes)
        nearest = squared_distance(points, boxes).argmin(dim=2, keepdim=True)
        lonely = ~allowed.any(dim=2, keepdim=True)
        allowed |= torch.zeros_like(allowed).scatter_(2, nearest, lonely)
        return allowed & scene.objects.real[..., None]

    def _costs(self, scene: Scene, ious: Tensor, allowed: Tensor) -> Tensor:
        """Return the cost of carrying a label from every object and the background to every point.

        Args:
            scene: K points an image.
            ious: [B, M, K].
            allowed: [B, M, K].

        Returns:
            [B, M + 1, K], the background last.
        """
        logits, own = scene.logits.float(), scene.own_logits()
        background = self._focal(logits, 0.0).sum(dim=2)[:, None]  # [B, 1, K]
        classes = background - self._focal(own, 0.0) + self._focal(own, 1.0)
        costs = classes - self.iou_weight * (ious + EPS).log()
        return torch.cat((costs.masked_fill_(~allowed, FORBIDDEN), background), dim=1)

    def _focal(self, logits: Tensor, wanted: float) -> Tensor:
        return focal_loss(logits, wanted, self.alpha, self.gamma)


def sinkhorn(costs: Tensor, supply: Tensor, demands: Tensor, iterations: int) -> Tensor:
    """Return how much each supplier sends, but for a factor of each point, as a logarithm.

    Args:
        costs: [B, S, K], in units of the entropy's weight.
        supply: [B, S] labels of each supplier.
        demands: [B, K] bool, whether a point demands a label.
        iterations: number of times that suppliers and points are served in turns.

    Returns:
        [B, S, K]; which supplier sends most does not depend on the factor.
    """
    supply = supply.clamp(min=NOTHING).log()[..., None]
    never = torch.tensor(-FORBIDDEN * FORBIDDEN, device=costs.device)
    sent = -costs
    for _ in range(iterations):
        points = torch.where(demands[:, None], -_log_sum_exp(sent, 1), never)
        suppliers = supply - _log_sum_exp(points - costs, 2)
        sent = suppliers - costs
    return sent


def _log_sum_exp(values: Tensor, dim: int) -> Tensor:
    """Return torch's `logsumexp`, which is many times slower where exponentials underflow."""
    top = values.amax(dim, keepdim=True)
    return (values - top).clamp_(min=NEGLIGIBLE).exp_().sum(dim, keepdim=True).log_() + top
