"""Which query has to find which object: the cheapest pairing of all."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from detectors.boxes import giou, shares_to_boxes
from detectors.interface import as_float32
from detectors.matching_config import HungarianMatcher
from detectors.queries import Matches, Objects, Predictions, pad_objects, upload

EPS = 1e-8  # smallest probability whose logarithm is taken
LOWEST = -1e8  # far below any cost


class HungarianMatching(HungarianMatcher):
    """Does what `HungarianMatcher` says."""

    @torch.no_grad()
    def __call__(self, predictions: Predictions, objects: Objects) -> Matches:
        """Match the queries of every layer and image; waits for the device once.

        Args:
            predictions: of L layers for B images.
            objects: of the same B images.

        Returns:
            Pairs by layer, then image; `image` counts over L * B (layer * B + image). Every layer
            has equally many: of each image the number of its objects or queries, whichever is less.
        """
        from scipy.optimize import linear_sum_assignment  # slow to import, needed in training only

        costs = self._costs(as_float32(predictions), objects)
        layers = len(costs)
        matrices = costs.flatten(0, 1).cpu().numpy()  # [L * B, M, Q]
        pairs = [
            linear_sum_assignment(matrix[:count])
            for matrix, count in zip(matrices, objects.counts * layers, strict=True)
        ]
        sizes = [len(queries) for _, queries in pairs]
        first = np.tile(np.cumsum((0, *objects.counts[:-1])), layers)  # object of each image
        matches = (
            np.arange(len(pairs)).repeat(sizes),
            np.concatenate([queries for _, queries in pairs]),
            np.concatenate([found for found, _ in pairs]) + first.repeat(sizes),
        )
        return Matches(*upload(np.stack(matches), objects.labels.device))

    def _costs(self, predictions: Predictions, objects: Objects) -> Tensor:
        """Return the cost of every object and query, [L, B, M, Q]; M objects in every image."""
        labels, boxes = pad_objects(objects, 0)
        predicted, boxes = predictions.boxes[:, :, None], boxes[:, :, None]
        distance = (predicted - boxes).abs().sum(dim=-1)  # of [L, B, 1, Q, 4] and [B, M, 1, 4]
        corners = [shares_to_boxes(each, objects.size) for each in (predicted, boxes)]
        overlap = giou(*corners)
        cost = self.bbox_cost * distance - self.giou_cost * overlap
        cost = cost + self.cls_cost * self._class_costs(predictions.logits, labels)
        return cost.nan_to_num(nan=LOWEST, posinf=LOWEST, neginf=LOWEST)

    def _class_costs(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return what class each query should have, from low to high.

        Args:
            logits: [L, B, Q, C], before sigmoid.
            labels: [B, M].

        Returns:
            [L, B, M, Q].
        """
        index = labels[None, :, :, None].expand(len(logits), -1, -1, logits.shape[2])
        scores = logits.transpose(2, 3).gather(2, index).sigmoid()
        is_not = (1 - self.alpha) * scores.pow(self.gamma) * -(1 - scores + EPS).log()
        is_so = self.alpha * (1 - scores).pow(self.gamma) * -(scores + EPS).log()
        return is_so - is_not
