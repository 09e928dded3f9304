"""Assignment by place and size alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from detectors.assigners.scene import DenseAssigner, Scene, inside, levels, near_center
from detectors.boxes import area
from detectors.interface import BACKGROUND


@dataclass(frozen=True)
class FCOSCenter(DenseAssigner):
    """Give each object the points near its centre, of the level that fits its size.

    A level is responsible for boxes whose farthest side is between the limits of the level before
    and its own, both included; the first level has no lower limit, the last no upper one. A point
    that fits several objects goes to the one with the smallest area.

    Source: FCOS, arXiv:2006.09214, sec. 3.1 and 3.2: centre sampling with radius 1.5; distances up
    to 64, 128, ... pixels at strides 8, 16, ...
    Differs: trained against the overlap instead of a class of its own and a centre-ness.
    """

    center_radius: float = 1.5
    """Half the side of the centre region, in strides; in no published table."""
    limit: float = 8.0
    """Largest distance to a side that a level but the last is responsible for, in strides; in no
    published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if min(self.center_radius, self.limit) <= 0:
            raise ValueError("center_radius and limit must be above 0")

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
