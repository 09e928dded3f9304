"""Assignment by place and size alone."""

from __future__ import annotations

import torch
from torch import Tensor

from detectors.assigners.fcos_config import FCOSCenter
from detectors.assigners.scene import DenseAssigner, Scene, inside, levels, near_center
from detectors.boxes import area
from detectors.interface import BACKGROUND


class FCOSCenterChooser(DenseAssigner, FCOSCenter):
    """Does what `FCOSCenter` says."""

    def choose(self, scene: Scene) -> Tensor:
        """Return the object of each prediction; see `DenseAssigner`."""
        points, strides = scene.points[:, None], scene.strides[:, None]
        boxes = scene.objects.boxes[:, :, None]
        fits = inside(points, boxes) & near_center(points, self.center_radius * strides, boxes)
        lower, upper = self._limits(scene.strides)
        farthest = _farthest_side(points, boxes)
        fits &= (farthest >= lower) & (farthest <= upper)
        areas = torch.where(fits, area(boxes), torch.inf)  # [B, M, N]
        smallest, winner = areas.min(dim=1)
        return torch.where(smallest.isfinite(), winner, BACKGROUND)

    def _limits(self, strides: Tensor) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest distance of each point, [N] each, pixels."""
        found, counts = levels(strides)
        bounds = self.limit * found[:-1]
        repeats = torch.tensor(counts, device=strides.device)
        lower = torch.cat((bounds.new_zeros(1), bounds)).repeat_interleave(repeats)
        upper = torch.cat((bounds, bounds.new_full((1,), torch.inf))).repeat_interleave(repeats)
        return lower, upper


def _farthest_side(points: Tensor, boxes: Tensor) -> Tensor:
    """Return the distance of points [..., 2] from the farthest side of the boxes [..., 4]."""
    x, y = points.unbind(-1)
    left, top, right, bottom = boxes.unbind(-1)
    across = torch.maximum(x - left, right - x)
    return torch.maximum(across, torch.maximum(y - top, bottom - y))
