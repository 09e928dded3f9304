"""The queries of detectors like DETR in training: what they predict, and what they have to find."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from detectors.boxes import boxes_to_shares
from detectors.interface import Target


class Objects(NamedTuple):
    """The T objects of a batch, image after image."""

    labels: Tensor  # [T] int64
    boxes: Tensor  # [T, 4] cxcywh, shares of the input's width and height
    counts: tuple[int, ...]  # objects of each image
    size: tuple[int, int]  # (h, w) of the input, pixels


class Matches(NamedTuple):
    """P queries, each with the object that it has to find."""

    image: Tensor  # [P] int64
    query: Tensor  # [P] int64, index into the queries of the image
    object: Tensor  # [P] int64, index into the batch's objects


class Predictions(NamedTuple):
    """What some layers predict for their queries."""

    logits: Tensor  # [L, B, Q, C], before sigmoid
    boxes: Tensor  # [L, B, Q, 4] cxcywh, shares of the input's width and height


def gather_objects(targets: list[Target], size: tuple[int, int]) -> Objects:
    """Join the objects of a batch.

    Args:
        targets: one per image, boxes in input pixels.
        size: (h, w) of the input, pixels.
    """
    labels = torch.cat([target.labels for target in targets])
    boxes = torch.cat([target.boxes for target in targets])
    counts = tuple(len(target.labels) for target in targets)
    return Objects(labels, boxes_to_shares(boxes, size), counts, size)


def places(counts: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where each of T objects stands, image after image.

    Args:
        counts: objects of each image.
        device: to hold the result.

    Returns:
        image: [T] int64, index into the batch.
        place: [T] int64, index into the objects of that image.
    """
    sizes = np.array(counts, dtype=np.int64)
    image = np.arange(len(sizes)).repeat(sizes)
    place = np.arange(len(image)) - (sizes.cumsum() - sizes).repeat(sizes)
    both = upload(np.stack((image, place)), device)
    return both[0], both[1]


def pad_objects(objects: Objects, label: int) -> tuple[Tensor, Tensor]:
    """Fill every image up to the M objects of the fullest one.

    Args:
        objects: of a batch of B images.
        label: of the objects that fill up; their boxes are zeros.

    Returns:
        labels: [B, M] int64.
        boxes: [B, M, 4] cxcywh, shares of the input's width and height.
    """
    where = places(objects.counts, objects.labels.device)
    shape = (len(objects.counts), max(objects.counts, default=0))
    labels = objects.labels.new_full(shape, label).index_put(where, objects.labels)
    boxes = objects.boxes.new_zeros((*shape, 4)).index_put(where, objects.boxes)
    return labels, boxes


def upload(values: np.ndarray, device: torch.device) -> Tensor:
    """Copy an array to a device without waiting for it."""
    tensor = torch.from_numpy(values)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
