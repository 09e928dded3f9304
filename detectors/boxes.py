"""Arithmetic on boxes: decoding, areas, overlaps. Boxes are xyxy unless a name says otherwise."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-6  # smallest area that an overlap is divided by, square pixels
SHARE_EPS = 1e-5  # shares this near 0 or 1 have the same value before the sigmoid


def grid_points(
    sizes: list[tuple[int, int]], strides: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the location and the stride of every cell of a pyramid.

    Args:
        sizes: (h, w) of each level, cells.
        strides: of each level, input pixels.
        device: where the tensors are made.

    Returns:
        points: [N, 2] (x, y) of each cell's top left corner, input pixels; float32.
        strides: [N], input pixels; float32.
    """
    points, spread = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y = torch.arange(height, device=device, dtype=torch.float32) * stride
        x = torch.arange(width, device=device, dtype=torch.float32) * stride
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        points.append(torch.stack((columns, rows), dim=-1).flatten(0, 1))
        spread.append(torch.full_like(points[-1][:, 0], stride))
    return torch.cat(points), torch.cat(spread)


def distances_to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Decode each point's distances to the four sides of its box.

    Args:
        points: [N, 2] (x, y), input pixels.
        distances: [B, N, 4] left, top, right, bottom, input pixels; negative ones are kept.

    Returns:
        [B, N, 4] xyxy, input pixels, not clipped.

    Source: FCOS, arXiv:1904.01355, eq. 1.
    """
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)


def inverse_sigmoid(shares: Tensor) -> Tensor:
    """Return what the sigmoid maps to shares in [0, 1], which are clipped; finite at both ends.

    Source: lyuwenyu/RT-DETR@068dfde rtdetr_pytorch/src/zoo/rtdetr/utils.py (Apache-2.0).
    """
    shares = shares.clamp(0, 1)
    return (shares.clamp(min=SHARE_EPS) / (1 - shares).clamp(min=SHARE_EPS)).log()


def shares_to_boxes(shares: Tensor, size: tuple[int, int]) -> Tensor:
    """Return xyxy boxes [..., 4], input pixels.

    Args:
        shares: [..., 4] cxcywh, shares of the input's width and height.
        size: (h, w) of the input, pixels.
    """
    height, width = size
    x, y, w, h = shares.unbind(-1)
    corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    return torch.stack(corners, dim=-1)


def boxes_to_shares(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return boxes as shares of the input's width and height, cxcywh [..., 4].

    Args:
        boxes: [..., 4] xyxy, input pixels.
        size: (h, w) of the input, pixels.
    """
    height, width = size
    left, top, right, bottom = boxes.unbind(-1)
    centre = ((left + right) / 2 / width, (top + bottom) / 2 / height)
    return torch.stack((*centre, (right - left) / width, (bottom - top) / height), dim=-1)


def area(boxes: Tensor) -> Tensor:
    """Return the area of boxes [..., 4], square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the overlap of every box with every other.

    Args:
        boxes: [..., N, 4] xyxy, pixels.
        others: [..., M, 4] xyxy, pixels.

    Returns:
        [..., N, M] intersection over union in [0, 1].
    """
    boxes, others = boxes.unsqueeze(-2), others.unsqueeze(-3)
    return _iou(boxes, others)[0]


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the overlap of boxes [..., 4] with others, pair by pair, in [0, 1]."""
    return _iou(boxes, others)[0]


def giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the generalised overlap of boxes, pair by pair; shapes are broadcast.

    Args:
        boxes: [..., 4] xyxy, pixels.
        others: [..., 4] xyxy, pixels.

    Returns:
        [...] in [-1, 1]; 1 where the boxes are equal.

    Source: Generalized Intersection over Union, arXiv:1902.09630, algorithm 1.
    """
    overlap, union = _iou(boxes, others)
    top_left = torch.minimum(boxes[..., :2], others[..., :2])
    bottom_right = torch.maximum(boxes[..., 2:], others[..., 2:])
    hull = _clamped_area(top_left, bottom_right).clamp(min=EPS)
    return overlap - (hull - union) / hull


def _iou(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return overlap and union of broadcast boxes [..., 4]."""
    left, top, right, bottom = boxes.unbind(-1)
    other_left, other_top, other_right, other_bottom = others.unbind(-1)
    # In place, since for all pairs of a batch fetching memory takes longer than arithmetic.
    width = torch.minimum(right, other_right).sub_(torch.maximum(left, other_left))
    height = torch.minimum(bottom, other_bottom).sub_(torch.maximum(top, other_top))
    intersection = width.clamp_(min=0) * height.clamp_(min=0)
    union = (area(boxes) + area(others)).sub_(intersection).clamp_(min=EPS)
    return intersection / union, union


def _clamped_area(top_left: Tensor, bottom_right: Tensor) -> Tensor:
    """Return the area between two corners [..., 2], 0 where they are crossed."""
    width, height = (bottom_right - top_left).clamp(min=0).unbind(-1)
    return width * height
