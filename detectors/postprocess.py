"""From predictions to detections: threshold, best candidates, suppression where it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import nms

from detectors.config import inference_only
from detectors.interface import Detections, Outputs, as_float32

FEW, FEW_OF_A_GROUP = 200, 10
"""Boxes in all, and for each group, up to which one call for all is quicker on a CPU than one for
each group (tests/benchmarks/test_nms.py)."""


@dataclass(frozen=True)
class NMSConfig:
    """Thresholds and limits of non-maximum suppression."""

    score_threshold: float = inference_only(0.001)
    """A class of a box is a candidate when its score is above. Published figures use 0.001
    (rtmdet/table2) or 0.05 (the ablations, rtmdet/table5a_kernel and its neighbours)."""
    iou_threshold: float = inference_only(0.65)
    """Overlap above which the weaker of two boxes goes; rtmdet/readme_pre_pr9494 used 0.6."""
    max_candidates: int = inference_only(30000)
    """Most candidates of an image that enter suppression, the best ones."""
    max_detections: int = inference_only(300)
    """Most detections of an image, the best ones; 300 in rtmdet/table2, 100 in the ablations."""
    class_agnostic: bool = inference_only(False)
    """Whether boxes of different classes suppress each other; in no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if not (0 <= self.score_threshold < 1 and 0 <= self.iou_threshold <= 1):
            raise ValueError("score_threshold must be in [0, 1) and iou_threshold in [0, 1]")
        if min(self.max_candidates, self.max_detections) < 1:
            raise ValueError("max_candidates and max_detections must be at least 1")

    def build(self) -> NMS:
        """Make the stage."""
        return NMS(self)


class NMS(nn.Module):
    """Keep the best of overlapping boxes; a box may be found as several classes.

    Source: open-mmlab/mmdetection v3.3.0 mmdet/models/dense_heads/base_dense_head.py (Apache-2.0).
    Differs: `max_candidates` counts over all levels, not on each one, which can change an image
    only where fewer than `max_detections` of so many candidates survive.
    """

    def __init__(self, config: NMSConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, outputs: Outputs, sizes: Tensor) -> list[Detections]:
        """Find objects.

        Args:
            outputs: of a dense head.
            sizes: [B, 2] (h, w) of the real image inside the input, pixels.

        Returns:
            One `Detections` per image, boxes clipped to `sizes`.
        """
        outputs = as_float32(outputs)
        triples = zip(outputs.scores(), outputs.boxes, sizes, strict=True)
        return [self._suppress(self._select(*triple)) for triple in triples]

    def candidates(self, outputs: Outputs) -> Tensor:
        """Return how many boxes of each image would enter suppression, [B]."""
        scores: Tensor = as_float32(outputs).scores()
        above = scores > self.config.score_threshold
        return above.sum(dim=(1, 2)).clamp(max=self.config.max_candidates)

    def _select(self, scores: Tensor, boxes: Tensor, size: Tensor) -> Detections:
        """Return one image's candidates, best first, clipped; equal scores in the outputs' order.

        Args:
            scores: [N, C].
            boxes: [N, 4].
            size: [2] (h, w).
        """
        index, labels = (scores > self.config.score_threshold).nonzero(as_tuple=True)
        chosen, best = scores[index, labels].sort(descending=True, stable=True)
        chosen, best = chosen[: self.config.max_candidates], best[: self.config.max_candidates]
        limits = size.flip(0).repeat(2).to(boxes)  # w, h, w, h
        clipped = boxes[index[best]].clamp(min=0).minimum(limits)
        real = (clipped[:, 2:] > clipped[:, :2]).all(dim=1)
        return Detections(clipped[real], chosen[real], labels[best][real])

    def _suppress(self, found: Detections) -> Detections:
        """Return the survivors among one image's candidates, best first."""
        groups = torch.zeros_like(found.labels) if self.config.class_agnostic else found.labels
        keep = group_nms(found.boxes, found.scores, groups, self.config.iou_threshold)
        keep = keep[: self.config.max_detections]
        return Detections(found.boxes[keep], found.scores[keep], found.labels[keep])


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
    together = _area(boxes)[..., :, None] + _area(others)[..., None, :]
    overlap = common / (together - common)
    same = groups[..., :, None] == other_groups[..., None, :]
    return (overlap > _round_down(iou_threshold, overlap.dtype)) & same


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


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


class PaddedDetections(NamedTuple):
    """What was found in a batch, in tensors of fixed size; zeros after the last detection."""

    boxes: Tensor  # [B, K, 4] xyxy, input pixels; best first
    scores: Tensor  # [B, K] in [0, 1]
    labels: Tensor  # [B, K] int64
    counts: Tensor  # [B] int64, detections of each image
    converged: Tensor  # [B] bool; where false, more steps might find others

    def unpad(self) -> list[Detections]:
        """Return the detections of each image; waits for the device."""
        parts = zip(self.boxes, self.scores, self.labels, self.counts.tolist(), strict=True)
        return [
            Detections(boxes[:count], scores[:count], labels[:count])
            for boxes, scores, labels, count in parts
        ]


class StaticNMS(nn.Module):
    """NMS that never waits for the device, and so can be captured in a CUDA graph.

    It finds what `NMS` finds, where `steps` suffice. Candidates of one score at the limit of
    `max_candidates` may differ.

    Args:
        config: `max_candidates` is the K whose pairs are all compared.
        steps: of `static_nms`; fewer than `max_candidates` are quicker, and `converged` tells
            afterwards whether they were enough.

    Raises:
        ValueError: more candidates than memory is reasonable for.
    """

    most_candidates = 4096

    def __init__(self, config: NMSConfig, steps: int | None = None) -> None:
        super().__init__()
        if config.max_candidates > self.most_candidates:
            raise ValueError(
                f"max_candidates {config.max_candidates}: all pairs are compared at once; "
                f"set max_candidates to {self.most_candidates} or fewer"
            )
        self.config, self.steps = config, steps

    def forward(self, outputs: Outputs, sizes: Tensor) -> PaddedDetections:
        """Find objects.

        Args:
            outputs: of a dense head.
            sizes: [B, 2] (h, w) of the real image inside the input, pixels.
        """
        outputs = as_float32(outputs)
        boxes, scores, labels, alive = self._select(outputs, sizes)
        groups = torch.zeros_like(labels) if self.config.class_agnostic else labels
        keep, converged = static_nms(boxes, groups, alive, self.config.iou_threshold, self.steps)
        most = min(self.config.max_detections, keep.shape[1])
        place = torch.where(keep, keep.cumsum(1) - 1, most).clamp(max=most)  # [B, K]
        boxes, scores, labels = (_put(part, place, most) for part in (boxes, scores, labels))
        counts = keep.sum(dim=1).clamp(max=most)
        return PaddedDetections(boxes, scores, labels, counts, converged)

    def _select(self, outputs: Outputs, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the best pairs of box and class, and which of them are candidates.

        Returns:
            boxes [B, K, 4], scores [B, K], labels [B, K], alive [B, K]; best first, equal scores in
            the order of the outputs.
        """
        scores = outputs.scores()
        classes, scores = scores.shape[2], scores.flatten(1)  # [B, N * C]
        scores, index = scores.topk(min(self.config.max_candidates, scores.shape[1]))  # [B, K]
        index, place = index.sort(dim=1)
        scores, order = scores.gather(1, place).sort(dim=1, descending=True, stable=True)
        index = index.gather(1, order)
        limits = sizes.flip(1).repeat(1, 2)[:, None].to(outputs.boxes)  # [B, 1, 4] w, h, w, h
        boxes = outputs.boxes.gather(1, (index // classes)[:, :, None].expand(-1, -1, 4))
        boxes = boxes.clamp(min=0).minimum(limits)
        real = (boxes[..., 2:] > boxes[..., :2]).all(dim=2)
        return boxes, scores, index % classes, real & (scores > self.config.score_threshold)


def _put(values: Tensor, place: Tensor, most: int) -> Tensor:
    """Move rows [B, K, ...] to their places among `most` zeros; place `most` is nowhere."""
    index = place if values.dim() == 2 else place[:, :, None].expand(values.shape)
    room = values.new_zeros((len(values), most + 1, *values.shape[2:]))
    return room.scatter(1, index, values)[:, :most]


@dataclass(frozen=True)
class TopKConfig:
    """How many detections a detector makes that needs no suppression."""

    max_detections: int = inference_only(300)
    """Most detections of an image, the best ones; 300 in rtdetr/table2."""
    score_threshold: float = inference_only(0.0)
    """A class of a box is a detection when its score is above; 0 keeps all, as in
    rtdetr/table2."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.max_detections < 1:
            raise ValueError("max_detections must be at least 1")
        if not 0 <= self.score_threshold < 1:
            raise ValueError("score_threshold must be in [0, 1)")

    def build(self) -> TopK:
        """Make the stage."""
        return TopK(self)


class TopK(nn.Module):
    """Keep the best pairs of a box and a class; a box may be found as several classes.

    Source: lyuwenyu/RT-DETR@068dfde rtdetr_pytorch/src/zoo/rtdetr/rtdetr_postprocessor.py
    (Apache-2.0), equal in numbers (tests/detectors/test_postprocess.py).
    Differs: boxes are clipped to the image, and there is a threshold.
    """

    def __init__(self, config: TopKConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, outputs: Outputs, sizes: Tensor) -> list[Detections]:
        """Find objects; waits for the device only where there is a threshold.

        Args:
            outputs: of a detector whose predictions do not repeat each other.
            sizes: [B, 2] (h, w) of the real image inside the input, pixels.

        Returns:
            One `Detections` per image, boxes clipped to `sizes`; those without area stay.
        """
        outputs = as_float32(outputs)
        scores = outputs.scores()
        classes = scores.shape[2]
        scores = scores.flatten(1)  # [B, N * C]
        scores, best = scores.topk(min(self.config.max_detections, scores.shape[1]))  # [B, K]
        index = (best // classes)[:, :, None].expand(-1, -1, 4)
        limits = sizes.flip(1).repeat(1, 2)[:, None].to(outputs.boxes)  # [B, 1, 4] w, h, w, h
        boxes = outputs.boxes.gather(1, index).clamp(min=0).minimum(limits)
        found = map(Detections, boxes, scores, best % classes)
        if self.config.score_threshold == 0:
            return list(found)
        above = (scores > self.config.score_threshold).sum(dim=1).tolist()
        return [
            Detections(*(part[:count] for part in each))
            for each, count in zip(found, above, strict=True)
        ]
