"""Costs of candidates only: few predictions lie near an object, and each image has its own."""

from __future__ import annotations

import torch
from torch import Tensor

from detectors.assigners.scene import Scene, at
from detectors.interface import BACKGROUND


def compact(candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the candidates [B, N] of each image are; waits for the device once.

    Returns:
        index: [B, K] ascending, K of the image with most; 0 where filled up.
        exists: [B, K] bool, false where filled up.
    """
    counts = candidates.sum(dim=1)
    most = int(counts.max())
    places = torch.where(candidates, candidates.cumsum(dim=1) - 1, most)
    index = places.new_zeros((len(places), most + 1))
    index.scatter_(1, places, torch.arange(places.shape[1], device=places.device).expand_as(places))
    return index[:, :most], torch.arange(most, device=places.device) < counts[:, None]


def narrow(scene: Scene, index: Tensor) -> Scene:
    """Keep the predictions with the indices [B, K] of each image."""
    logits, boxes, points, strides = (at(each, index) for each in scene[:4])
    return Scene(logits, boxes, points, strides, scene.objects)


def widen(found: Tensor, index: Tensor, predictions: int) -> Tensor:
    """Return the objects [B, N] of all predictions from those of the compacted ones, [B, K]."""
    # Filled-up places write nothing: they go to a column that is cut off.
    index = torch.where(found == BACKGROUND, predictions, index)
    result = found.new_full((len(found), predictions + 1), BACKGROUND)
    return result.scatter_(1, index, found)[:, :predictions]
