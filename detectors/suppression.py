"""Non-maximum suppression: exact, by group, on every device, with and without waiting for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from detectors.boxes import area

FEW, FEW_OF_A_GROUP = 200, 10
"""Boxes in all, and for each group, up to which one call for all is quicker on a CPU than one for
each group (tests/benchmarks/test_nms.py)."""


def group_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Suppress within each group, with the same survivors on every device.

    Args:
        boxes: [K, 4] xyxy, pixels; below single precision they are widened.
        scores: [K], best first.
        groups: [K] int64, >= 0; boxes of different groups leave each other alone.
        iou_threshold: overlap above which the weaker of two boxes goes.

    Returns:
        Indices of the survivors, best first.
    """
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
    if boxes.device.type == "cpu":
        counts = [count for count in groups.bincount().tolist() if count]
        if len(boxes) > min(FEW, FEW_OF_A_GROUP * len(counts)):
            return _nms_by_group(boxes, scores.to(boxes.dtype), groups, counts, iou_threshold)
    return _nms_in_blocks(boxes, groups, iou_threshold)


def _nms_by_group(
    boxes: Tensor, scores: Tensor, groups: Tensor, counts: list[int], iou_threshold: float
) -> Tensor:
    """Run once a group, of which `counts` has the sizes in order: least work.

    Only boxes of one group are compared.
    """
    from torchvision.ops import nms  # its import loads torch's compiler, which takes seconds

    order = groups.argsort(stable=True)
    keep = torch.zeros(len(boxes), dtype=torch.bool)
    for members in torch.split(order, counts):
        keep[members[nms(boxes[members], scores[members], iou_threshold)]] = True
    return keep.nonzero().squeeze(1)


def _nms_in_blocks(
    boxes: Tensor, groups: Tensor, iou_threshold: float, block: int = 1024
) -> Tensor:
    """Run once a block of neighbours, groups in a row: few calls, which an accelerator wants.

    A block settles its own members, then suppresses in what remains of its last group. Each
    operation rounds once, as in torchvision's loop, so that no overlap falls on the other side of
    the threshold.
    """
    order = groups.argsort(stable=True)
    boxes, groups = boxes[order], groups[order]
    starts = range(0, len(order), block)
    last = groups[[min(start + block, len(order)) - 1 for start in starts]]
    ends = torch.searchsorted(groups, last, right=True).tolist()
    keep = torch.ones_like(groups, dtype=torch.bool)
    for start, end in zip(starts, ends, strict=True):
        own, rest = slice(start, start + block), slice(start + block, end)
        beaten = _suppresses(boxes[own], groups[own], boxes[own], groups[own], iou_threshold)
        keep[own] = settled = _settle(beaten.triu(1).float(), keep[own])
        if start + block < end:
            beaten = _suppresses(boxes[own], groups[own], boxes[rest], groups[rest], iou_threshold)
            keep[rest] = _spare(beaten.float(), settled, keep[rest])
    return order[keep].sort().values


def _suppresses(
    boxes: Tensor, groups: Tensor, others: Tensor, other_groups: Tensor, iou_threshold: float
) -> Tensor:
    """Say which boxes overlap which others of their group too much.

    Args:
        boxes: [..., K, 4] xyxy.
        groups: [..., K].
        others: [..., M, 4] xyxy.
        other_groups: [..., M].
        iou_threshold: overlap above which it is too much; not a number, from boxes without area,
            never is.

    Returns:
        [..., K, M] bool.
    """
    corner = torch.maximum(boxes[..., :, None, :2], others[..., None, :, :2])
    sides = torch.minimum(boxes[..., :, None, 2:], others[..., None, :, 2:]) - corner
    sides = sides.clamp(min=0)
    common = sides[..., 0] * sides[..., 1]
    together = area(boxes)[..., :, None] + area(others)[..., None, :]
    overlap = common / (together - common)
    same = groups[..., :, None] == other_groups[..., None, :]
    return (overlap > _round_down(iou_threshold, overlap.dtype)) & same


def _round_down(threshold: float, dtype: torch.dtype) -> float:
    """Return the largest number of a type that is not above: to exceed it is to exceed both."""
    if dtype != torch.float32:
        return threshold
    nearest = np.float32(threshold)
    below = np.nextafter(nearest, np.float32(-1))
    return float(nearest) if float(nearest) <= threshold else float(below)


def _spare(beaten: Tensor, keep: Tensor, alive: Tensor) -> Tensor:
    """Return who of `alive` [..., M] is beaten [..., K, M] by none of `keep` [..., K]."""
    by = keep.to(beaten.dtype)[..., None, :] @ beaten
    return alive & (by.squeeze(-2) == 0)


def _settle(beaten: Tensor, alive: Tensor) -> Tensor:
    """Repeat until nothing changes; see `static_nms`. Waits for the device at each step."""
    keep = _spare(beaten, alive, alive)
    before = alive
    while not torch.equal(keep, before):
        before, keep = keep, _spare(beaten, keep, alive)
    return keep


class Settled(NamedTuple):
    """Which candidates survive, and whether that is known to be final."""

    keep: Tensor  # [..., K] bool
    converged: Tensor  # [...] bool


def static_nms(
    boxes: Tensor, groups: Tensor, alive: Tensor, iou_threshold: float, steps: int | None = None
) -> Settled:
    """Suppress within each group without waiting for the device, in tensors of fixed size.

    A box survives when no survivor before it overlaps it too much. The rule is applied to all boxes
    at once, again and again: after n steps the first n boxes are right, and so are all whose chain
    of suppressions is no longer than n. What a step leaves unchanged is what greedy suppression
    keeps, since the rule has only one fixed point.

    Args:
        boxes: [..., K, 4] xyxy, best first.
        groups: [..., K]; boxes of different groups leave each other alone.
        alive: [..., K] bool, false for padding, which neither survives nor suppresses.
        iou_threshold: overlap above which the weaker of two boxes goes.
        steps: how often the rule is applied; None for K, after which it always has converged.

    Source: Zheng et al., Enhancing Geometric Factors in Model Learning and Inference,
    arXiv:2005.03572, sec. IV ("Cluster-NMS").
    """
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
    beaten = _suppresses(boxes, groups, boxes, groups, iou_threshold).triu(1).float()
    keep = alive
    for _ in range(boxes.shape[-2] if steps is None else steps):
        keep = _spare(beaten, keep, alive)
    return Settled(keep, (_spare(beaten, keep, alive) == keep).all(dim=-1))
