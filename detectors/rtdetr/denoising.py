"""Contrastive denoising: queries that start from disturbed objects, which training restores."""

from __future__ import annotations

import torch
from torch import Tensor

from detectors.boxes import boxes_to_shares, inverse_sigmoid, shares_to_boxes
from detectors.queries import Matches, Objects, pad_objects, places
from detectors.rtdetr.config import DenoisingConfig
from detectors.rtdetr.queries import Noise

WHOLE = (1, 1)  # size of an input whose sides are the unit


@torch.no_grad()
def make_noise(objects: Objects, num_classes: int, config: DenoisingConfig) -> Noise | None:
    """Disturb every object of a batch, in as many groups as fit; none without objects.

    Random numbers come from torch's global generator of the objects' device.

    Source: DINO, arXiv:2203.03605, sec. 3.3; lyuwenyu/RT-DETR@068dfde
    rtdetr_pytorch/src/zoo/rtdetr/denoising.py (Apache-2.0), equal in numbers for the same seed
    (tests/detectors/test_rtdetr_denoising.py).
    Differs: numbers are drawn also where `label_noise` or `box_noise` is 0, and boxes without
    noise stand before the sigmoid like all others.
    """
    most = max(objects.counts, default=0)
    if most == 0 or config.num_queries == 0:
        return None
    groups = max(config.num_queries // most, 1)
    labels, boxes = pad_objects(objects, num_classes)
    labels = _relabel(labels.repeat(1, 2 * groups), num_classes, config.label_noise / 2)
    far = (torch.arange(2 * groups * most, device=boxes.device) // most) % 2  # [D]
    boxes = _shift(boxes.repeat(1, 2 * groups, 1), far, config.box_noise)
    return Noise(labels, inverse_sigmoid(boxes), groups, _positives(objects, groups, 2 * most))


def attention_mask(noise: Noise, num_queries: int) -> Tensor:
    """Return what may not be attended: other groups, and by matching queries any group.

    Args:
        noise: D denoising queries, which stand first.
        num_queries: Q matching queries, which stand last and are seen by all.

    Returns:
        [D + Q, D + Q] bool; true where the query of the row must not see that of the column.

    Source: lyuwenyu/RT-DETR@068dfde rtdetr_pytorch/src/zoo/rtdetr/denoising.py (Apache-2.0).
    """
    index = torch.arange(noise.queries + num_queries, device=noise.labels.device)
    group = (index // (noise.queries // noise.groups)).clamp(max=noise.groups)
    return (group[:, None] != group) & (group < noise.groups)


def _relabel(labels: Tensor, num_classes: int, probability: float) -> Tensor:
    """Give some of the labels [B, D] a random class; what fills up keeps its own."""
    chosen = torch.rand(labels.shape, device=labels.device) < probability
    random = torch.randint_like(labels, num_classes)
    return torch.where(chosen & (labels < num_classes), random, labels)


def _shift(boxes: Tensor, far: Tensor, scale: float) -> Tensor:
    """Move each side of boxes at random, within the image.

    Args:
        boxes: [B, D, 4] cxcywh, shares of the input's width and height.
        far: [D], 1 where a side moves further than `scale` and 0 where less.
        scale: share of half the width or height.
    """
    signs = torch.randint_like(boxes, 2) * 2 - 1
    moves = (torch.rand_like(boxes) + far[:, None]) * signs
    reach = boxes[..., 2:].repeat(1, 1, 2) * 0.5 * scale
    sides = shares_to_boxes(boxes, WHOLE) + moves * reach
    return boxes_to_shares(sides.clamp(0, 1), WHOLE)


def _positives(objects: Objects, groups: int, queries: int) -> Matches:
    """Pair the near queries of all groups, each of so many queries, with their objects."""
    image, place = places(objects.counts, objects.labels.device)
    first = torch.arange(groups, device=place.device) * queries
    index = torch.arange(len(place), device=place.device)
    query = (place + first[:, None]).flatten()
    return Matches(image.repeat(groups), query, index.repeat(groups))
