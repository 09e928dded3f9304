"""Assignment of one prediction to each object."""

from __future__ import annotations

import torch
from torch import Tensor

from detectors.assigners.hungarian_config import Hungarian
from detectors.assigners.scene import DenseAssigner, Scene
from detectors.boxes import boxes_to_shares
from detectors.interface import BACKGROUND
from detectors.queries import Objects, Predictions, places


class HungarianChooser(DenseAssigner, Hungarian):
    """Does what `Hungarian` says."""

    def choose(self, scene: Scene) -> Tensor:
        """Return the object of each prediction; see `DenseAssigner`."""
        low, high = scene.points[0].aminmax(dim=0)
        extent = (high - low + scene.strides.min()).repeat(2)  # [4] width and height, twice
        boxes, wanted = (
            boxes_to_shares(each / extent, (1, 1)) for each in (scene.boxes, scene.objects.boxes)
        )
        counts = scene.objects.counts
        where = places(counts, boxes.device)
        objects = Objects(scene.objects.labels[where], wanted[where], counts, (1, 1))
        matches = self._matcher()(Predictions(scene.logits[None], boxes[None]), objects)
        found = torch.full(scene.boxes.shape[:2], BACKGROUND, device=boxes.device)
        found[matches.image, matches.query] = where[1][matches.object]
        return found
